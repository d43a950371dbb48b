# nginx: several workers, its log to standard output (until it reloads as a daemon), a reload under way, large files, a proxy.
set -eu
mkdir -p /tmp/nginx/pages && cd /tmp/nginx
echo index > pages/index.html
head -c 5000000 /dev/zero | tr '\0' x > pages/large
cat > conf <<'END'
worker_processes 3;
daemon on;
pid /tmp/nginx/pid;
error_log /tmp/nginx/error;
events { worker_connections 256; }
http {
    access_log /dev/stdout combined;
    sendfile on;
    upstream self { server 127.0.0.1:8081; }
    server { listen 127.0.0.1:8080; listen [::1]:8080; root /tmp/nginx/pages; location /proxy/ { proxy_pass http://self/; } }
    server { listen 127.0.0.1:8081 reuseport; root /tmp/nginx/pages; }
}
END
nginx -c /tmp/nginx/conf -t 2>&1 | tail -n 1
nginx -c /tmp/nginx/conf > access
curl -s http://127.0.0.1:8080/ 'http://[::1]:8080/'
curl -s http://127.0.0.1:8080/large | md5sum
curl -s http://127.0.0.1:8080/proxy/large | md5sum
curl -s -r 100-199 http://127.0.0.1:8080/large | wc -c
curl -s -o /dev/null -w '%{http_code}\n' http://127.0.0.1:8080/none
grep -c 'GET ' access
for n in $(seq 8); do for i in $(seq 25); do curl -s http://127.0.0.1:8080/; done > out.$n & done
nginx -c /tmp/nginx/conf -s reload
wait
cat out.* | sort | uniq -c
nginx -c /tmp/nginx/conf -s quit
for try in $(seq 100); do [ -e pid ] || break; sleep 0.1; done
[ -e pid ] || echo gone
