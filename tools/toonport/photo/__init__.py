"""From a photo to what a portrait network wants: a face upright, cropped, and cut out on white."""
