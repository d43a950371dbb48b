# What is in a picture (PNG, eight bits a channel, not interlaced), without a library: its size, and some pixels.
import struct, sys, zlib
data = open(sys.argv[1], "rb").read()
at, packed = 8, b""
while at < len(data):
    length, kind = struct.unpack(">I4s", data[at:at + 8])
    body = data[at + 8:at + 8 + length]
    if kind == b"IHDR": width, height, depth, colour = struct.unpack(">IIBB", body[:10])
    if kind == b"IDAT": packed += body
    at += 12 + length
channels = {2: 3, 6: 4}[colour]
raw, stride, rows, before = zlib.decompress(packed), width * channels, [], bytes(width * channels)
for y in range(height):
    kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
    for x in range(stride):
        left = line[x - channels] if x >= channels else 0
        up, corner = before[x], before[x - channels] if x >= channels else 0
        if kind == 1: line[x] = (line[x] + left) & 255
        elif kind == 2: line[x] = (line[x] + up) & 255
        elif kind == 3: line[x] = (line[x] + (left + up) // 2) & 255
        elif kind == 4:
            p = left + up - corner
            a, b, c = abs(p - left), abs(p - up), abs(p - corner)
            line[x] = (line[x] + (left if a <= b and a <= c else up if b <= c else corner)) & 255
    before = line
    rows.append(line)
print(width, "by", height)
for x, y in ((5, 5), (100, 50), (199, 99), (205, 105), (width - 5, height - 5)):
    print(x, y, list(rows[y][x * channels:x * channels + 3]))
