"""
Draws assets/chat: screenshots of the page that chat.py serves, wide, on a telephone, and dark.

$ python chat.py --serve=True --memory_file=out/lena --top_k=1 --max_new_tokens=40
$ python assets/draw_chat.py http://127.0.0.1:8000      # with requirements-page.txt and a Chromium
"""
import io
import os
import shutil
import sys

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = os.path.dirname(os.path.abspath(__file__))
SCREENS = {'wide': {'width': 1200, 'height': 640}, 'narrow': {'width': 390, 'height': 780},
           'dark': {'width': 1200, 'height': 640}}
SAID = ('My sister Lena lives in Oporto.', 'I call <script>alert(1)</script> a greeting.', 'What is a comet?',
        'What is the capital of France?', 'Where does my sister Lena live?')


def say(page, words):
    page.fill('#words', words)
    page.press('#words', 'Enter')
    page.get_by_role('button', name='Stop', exact=True).wait_for()
    page.get_by_role('button', name='Send', exact=True).wait_for(timeout=300_000)


def draw(address):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
        page = browser.new_page()
        page.goto(address)
        for words in SAID:
            say(page, words)
        for name, size in SCREENS.items():
            page.set_viewport_size(size)
            page.emulate_media(color_scheme='dark' if name == 'dark' else 'light')
            picture = io.BytesIO(page.screenshot())
            # a palette takes a third of the bytes
            Image.open(picture).quantize(256).save(os.path.join(HERE, 'chat', f'{name}.png'), optimize=True)
        browser.close()


if __name__ == '__main__':
    os.makedirs(os.path.join(HERE, 'chat'), exist_ok=True)
    draw(sys.argv[1])
