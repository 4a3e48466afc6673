"""The page `dvc plots show` fills, with Vega inside it: DVC's own loads Vega from a content network at every view.

Run once after installing (`make` does): python -m jaegpt.runs.plots_page
"""

import vl_convert

from jaegpt.files import write_text

PATH = ".dvc/plots_page.html"  # named in .dvc/config; not in Git, since it is a library's code

# {plot_divs} and {refresh_tag} are DVC's placeholders; its {scripts} would bring the network back.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  {refresh_tag}
  <title>jaegpt: plots</title>
  <style>
    body { font-family: system-ui, sans-serif; margin: 1.5rem; display: flex; flex-wrap: wrap; gap: 1.5rem; }
    body > div { max-width: 100%; overflow-x: auto; }
  </style>
  <script>%s</script>
</head>
<body>
  {plot_divs}
</body>
</html>
"""

_GLOBALS = "window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;"


def plots_page() -> str:
    """The template's HTML, about 0.9 MB, most of it Vega."""
    return _PAGE.replace("%s", vl_convert.javascript_bundle(_GLOBALS).replace("</script", "<\\/script"))


if __name__ == "__main__":
    write_text(PATH, plots_page())
