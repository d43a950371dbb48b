# Firefox, headless: a page with scripts is drawn.
set -eu
cd /tmp
firefox-esr --headless --window-size=640,480 --screenshot /tmp/shot.png file:///cases/page.html > /tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }
python3 /cases/pixels.py /tmp/shot.png
