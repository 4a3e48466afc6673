"""An export -> messages: discovery, one reader per format, text repair, system lines."""
