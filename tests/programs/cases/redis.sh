# Redis: a benchmark, a snapshot by a fork, an append-only file, a kill, what is there afterwards; a replica.
set -eu
mkdir -p /tmp/redis && cd /tmp/redis
start() { redis-server --port "$1" --dir /tmp/redis --daemonize yes --logfile /tmp/redis/log --pidfile "/tmp/redis/pid.$1" "${@:2}" > /dev/null; for try in $(seq 100); do redis-cli -p "$1" ping > /dev/null 2>&1 && break; sleep 0.1; done; }
start 6379 --appendonly yes --appendfsync everysec --dbfilename first.rdb
redis-benchmark -q -n 2000 -c 20 -P 4 -t set,get,lpush > /dev/null
for i in $(seq 200); do echo "set key:$i value:$i"; done | redis-cli > /dev/null
redis-cli get key:77
redis-cli bgsave > /dev/null
for try in $(seq 100); do [ "$(redis-cli info persistence | tr -d '\r' | sed -n 's/^rdb_bgsave_in_progress://p')" = 0 ] && break; sleep 0.1; done
redis-cli info persistence | tr -d '\r' | grep -E '^rdb_last_bgsave_status|^aof_last_write_status'
redis-cli eval 'return redis.call("incrby", KEYS[1], 42)' 1 counter
start 6380 --replicaof 127.0.0.1 6379 --dbfilename second.rdb
for try in $(seq 200); do [ "$(redis-cli -p 6380 get counter)" = 42 ] && break; sleep 0.1; done
redis-cli -p 6380 get counter
redis-cli -p 6380 shutdown nosave 2> /dev/null || true
redis-cli config set appendfsync always > /dev/null
redis-cli set last one > /dev/null
kill -KILL "$(cat pid.6379)"
while kill -0 "$(cat pid.6379)" 2> /dev/null; do sleep 0.1; done
start 6379 --appendonly yes
redis-cli get last
redis-cli get key:200
redis-cli shutdown nosave 2> /dev/null || true
