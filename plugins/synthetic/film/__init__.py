"""Film clips: scenes of random textures, movements, cameras and sounds, made for transfer to film.

Domain randomisation (Tobin et al., 2017): whatever does not matter to synchronization varies so
widely that a real clip looks like one more sample.
"""
