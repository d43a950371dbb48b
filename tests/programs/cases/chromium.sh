# Chromium, headless, with its helper processes (zygote, GPU, renderer), without a sandbox of its own: a page with scripts is run and drawn.
set -eu
cd /tmp
switches="--headless --no-sandbox --disable-gpu --window-size=640,480 --user-data-dir=/tmp/profile"
chromium $switches --dump-dom file:///cases/page.html 2> /tmp/log | grep -o 'sum [^<]*' || { cat /tmp/log >&2; exit 1; }
chromium $switches --screenshot=/tmp/shot.png file:///cases/page.html > /tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }
python3 /cases/pixels.py /tmp/shot.png
