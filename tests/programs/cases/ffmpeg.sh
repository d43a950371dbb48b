# ffmpeg: a generated clip is encoded by several codecs, with threads, and read back picture by picture.
set -eu
cd /tmp
quiet="-hide_banner -loglevel error -nostdin"
ffmpeg $quiet -f lavfi -i testsrc=duration=2:size=320x240:rate=25 -f lavfi -i sine=frequency=440:duration=2 -c:v libx264 -threads 4 -x264-params sliced-threads=0:non-deterministic=0 -c:a aac -bitexact -y clip.mp4
ffprobe -v error -show_entries stream=codec_name,width,height,nb_frames -of csv clip.mp4
ffmpeg $quiet -i clip.mp4 -f framemd5 -bitexact - | tail -n 5
ffmpeg $quiet -i clip.mp4 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -threads 2 -an -bitexact -y clip.webm
ffmpeg $quiet -i clip.webm -f framemd5 -bitexact - | tail -n 3
ffmpeg $quiet -i clip.mp4 -vf "scale=160:120,hue=s=0" -frames:v 3 -y picture%d.png
md5sum picture*.png
ffmpeg $quiet -i clip.mp4 -f wav -bitexact - | md5sum
