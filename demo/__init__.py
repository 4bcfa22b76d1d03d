"""A web page around `zoo`: upload a clip, see the offset, take the repaired file home."""
