# Perl, PHP, Ruby, SQLite's shell, and everyday tools.
set -eu
mkdir -p /tmp/scripts && cd /tmp/scripts
perl -MPOSIX -MSocket -e '$SIG{CHLD} = sub {}; my @p = map { pipe(my $r, my $w); if (!fork) { print $w $_ * $_, "\n"; exit 0 } close $w; scalar <$r> } 1 .. 50; my $s = 0; $s += $_ for @p; print "perl $s ", (wait() > 0 ? "reaped" : "?"), "\n"'
php -r 'echo "php ", array_sum(array_map(fn($n) => $n ** 2, range(1, 100))), " ", hash("sha256", str_repeat("x", 1000000)), " ", preg_match("/(\d+)-(\w+)/", "12-ab", $m), "\n";'
php -S 127.0.0.1:8090 -t /cases > /dev/null 2>&1 &
server=$!
for try in $(seq 100); do curl -s -o page http://127.0.0.1:8090/page.html && break; sleep 0.1; done
cmp page /cases/page.html && echo served
kill $server
ruby -rdigest -rsocket -e 'r = 20.times.map { |n| Thread.new { (1..2000).reduce { |a, b| (a * 31 + b + n) % 1000003 } } }.sum(&:value); a, b = UNIXSocket.pair; fork { a.puts "child #{Process.ppid == 0}" }; puts "ruby #{r} #{Digest::SHA256.hexdigest("x" * 1000)[0, 16]} #{b.gets}"; Process.wait'
sqlite3 base 'pragma journal_mode=wal; create table t(a); with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) insert into t select i * i from n; select count(*), sum(a) from t; pragma integrity_check;'
seq 100000 | sort -R | sort -n --parallel=2 -S 1M -T . | md5sum
tar -C /usr/lib -cf - python3.11 --sort=name | xz -T2 -1 | xz -d | tar -tf - | wc -l
find /usr -xdev -type f -size +1M | wc -l
bash -c 'coproc cat; echo through >&"${COPROC[1]}"; read -r x <&"${COPROC[0]}"; echo "$x"; kill $COPROC_PID'
awk 'BEGIN { for (i = 0; i < 200000; i++) s = (s * 31 + i) % 1000003; print "awk", s }'
