"""The page that `dvc plots` fills, with Vega inside it: DVC's own page loads Vega from a content network at every view.

It stands in Git, so that plots work in any clone. After vl-convert changed: python -m jaegpt.runs.plots_page
"""

import vl_convert

from jaegpt.files import write_text

PATH = ".dvc/plots_page.html"  # named in .dvc/config

# {plot_divs} and {refresh_tag} are DVC's placeholders; its {scripts} would bring the network back.
_PAGE = """<!DOCTYPE html>
<!-- The first script holds Vega, Vega-Lite and Vega-Embed (BSD-3-Clause, Copyright University of Washington Interactive
Data Lab and other contributors) with D3 (ISC, Copyright Mike Bostock) and the small libraries that they bundle. -->
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <link rel="icon" href="data:,">
  {refresh_tag}
  <title>jaegpt: plots</title>
  <style>
    body { font-family: system-ui, sans-serif; margin: 1.5rem; display: flex; flex-wrap: wrap; gap: 1.5rem 2.5rem; }
    body > div { max-width: 100%; overflow-x: auto; }
    body > div:not(:has(canvas, svg)) { display: none; }
  </style>
  <script>%s</script>
  <script>
    // DVC also puts files of figures here, of which there is nothing to draw.
    const draw = window.vegaEmbed;
    window.vegaEmbed = (place, spec) => Object.keys(spec).length ? draw(place, spec, {renderer: 'svg'}) : null;
  </script>
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
