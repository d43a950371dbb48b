# gcc, g++, make, ar, strip, sanitizers: a generated project is built by several jobs, incrementally, and run.
set -eu
# It traces its own threads, and nobody traces in the sandbox yet.
export ASAN_OPTIONS=detect_leaks=0
mkdir -p /tmp/build && cd /tmp/build
for i in $(seq 30); do echo "int f$i(int x) { int s = x; for (int i = 0; i < 100; i++) s = s * 31 + i % $i; return s; }" > "f$i.c"; done
{
    echo '#include <stdio.h>'
    for i in $(seq 30); do echo "int f$i(int);"; done
    echo 'int main(void) { unsigned s = 0;'
    for i in $(seq 30); do echo "s += f$i($i);"; done
    echo 'printf("%u\n", s); return 0; }'
} > main.c
cat > Makefile <<'END'
OBJECTS := $(patsubst %.c,%.o,$(filter-out main.c,$(wildcard *.c)))
CFLAGS := -O2
all: program program-lto library.so
program: main.o library.a
	$(CC) -o $@ $^
program-lto: main.c $(OBJECTS:.o=.c)
	$(CC) -flto=auto -O2 -o $@ $^
library.a: $(OBJECTS)
	ar rcD $@ $^
library.so: $(OBJECTS:.o=.c)
	$(CC) -fPIC -shared -o $@ $^
END
make -s -j3
./program && ./program-lto
make -s -j3 && echo up to date
touch f3.c && make -j3 | grep -c 'f3'
sha256sum library.a
strip -o stripped program && ./stripped
cat > vector.cc <<'END'
#include <algorithm>
#include <future>
#include <iostream>
#include <regex>
#include <vector>
int main() {
    std::vector<std::future<long>> parts;
    for (int i = 0; i < 8; i++) parts.push_back(std::async(std::launch::async, [i] { std::vector<long> v(100000); std::generate(v.begin(), v.end(), [n = (long)i]() mutable { return n = n * 31 % 1000003; }); std::sort(v.begin(), v.end()); return v[50000]; }));
    long sum = 0;
    for (auto &part : parts) sum += part.get();
    try { throw std::runtime_error("thrown"); } catch (const std::exception &e) { std::cout << e.what() << "\n"; }
    std::cout << sum << " " << std::regex_match("abc123", std::regex("[a-z]+[0-9]+")) << "\n";
}
END
for switches in "-O2" "-O1 -g -fsanitize=address,undefined" "-O1 -g -fsanitize=thread"; do
    g++ -std=c++20 $switches -o vector vector.cc
    ./vector
done
