# PostgreSQL: a cluster is made, filled by several clients, crashes, comes back, is checked and dumped.
set -eu
bin=$(echo /usr/lib/postgresql/*/bin)
mkdir -p /tmp/pg && chown postgres /tmp/pg && cd /tmp/pg
as() { setpriv --reuid postgres --regid postgres --clear-groups env HOME=/tmp/pg "$@"; }
as "$bin/initdb" -D data --no-locale -E UTF8 --data-checksums > /tmp/pg.log 2>&1 || { cat /tmp/pg.log >&2; exit 1; }
start() { as "$bin/pg_ctl" -D data -o "-k /tmp/pg -c listen_addresses=127.0.0.1 -c shared_buffers=32MB" -l /tmp/pg/log -w start > /dev/null || { cat log >&2; exit 1; }; }
sql() { as psql -h /tmp/pg -d postgres -XAtq "$@"; }
start
as createdb -h 127.0.0.1 bench
as pgbench -h /tmp/pg -i -s 2 -q bench > /dev/null 2>&1
as pgbench -h 127.0.0.1 -c 4 -j 2 -t 50 bench 2> /dev/null | grep 'actually processed'
as psql -h /tmp/pg -XAtq -d bench -c 'select sum(abalance) = (select sum(delta) from pgbench_history) from pgbench_accounts'
sql -c "create table t as select n, md5(n::text) as h from generate_series(1, 20000) n" -c "create index on t(h)" -c "select count(*), md5(string_agg(h, '' order by n)) from t"
sql -c "set max_parallel_workers_per_gather = 2; set parallel_setup_cost = 0; set min_parallel_table_scan_size = 0; select sum(length(h)) from t"
sql -c "listen x" -c "notify x" -c "select pg_sleep(0.1)" > /dev/null
sql -c "set statement_timeout = 100; select pg_sleep(10)" 2>&1 | tail -n 1
# One of its processes is killed: all begin anew.
sql -c "begin; insert into t values (0, 'lost'); select pg_sleep(100)" > /dev/null 2>&1 &
for try in $(seq 100); do
    victim=$(sql -c "select pid from pg_stat_activity where query like '%pg_sleep(100)%' and pid <> pg_backend_pid()")
    [ -z "$victim" ] || break
    sleep 0.1
done
kill -KILL "$victim"
for try in $(seq 100); do sql -c 'select 1' > /dev/null 2>&1 && break; sleep 0.1; done
sql -c "select count(*), count(*) filter (where h = 'lost') from t"
as "$bin/pg_ctl" -D data -m immediate -w stop > /dev/null
start
sql -c 'vacuum full t' -c 'select count(*) from t'
as pg_dump -h /tmp/pg -t t postgres | grep -c '^[0-9]'
as "$bin/pg_ctl" -D data -m fast -w stop > /dev/null
as "$bin/pg_checksums" -D data --check | grep 'Bad checksums'
