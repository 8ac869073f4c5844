"""
Draws assets/page: screenshots of a trace page, wide, on a telephone, and dark.

$ python build_memory.py config/smollm2_library.py --text="FILE:memories/*.txt"
$ python sample.py config/smollm2_library.py --page=out/page.html
$ python assets/draw_page.py out/page.html      # with requirements-page.txt and a Chromium on the PATH
"""
import io
import os
import pathlib
import shutil
import sys

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = os.path.dirname(os.path.abspath(__file__))
SCREENS = {'wide': {'width': 1100, 'height': 1520}, 'narrow': {'width': 390, 'height': 1420},
           'dark': {'width': 1100, 'height': 900}}


def draw(path):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
        for name, size in SCREENS.items():
            page = browser.new_page(viewport=size, color_scheme='dark' if name == 'dark' else 'light')
            page.goto(pathlib.Path(path).resolve().as_uri())
            picture = io.BytesIO(page.screenshot())
            # a palette takes a third of the bytes
            Image.open(picture).quantize(256).save(os.path.join(HERE, 'page', f'{name}.png'), optimize=True)
        browser.close()


if __name__ == '__main__':
    os.makedirs(os.path.join(HERE, 'page'), exist_ok=True)
    draw(sys.argv[1])
