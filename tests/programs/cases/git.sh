# git: commits, branches, a merge, a rebase, clones by file and by its own server, packing, checks.
set -eu
export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z' GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
mkdir -p /tmp/git && cd /tmp/git
git init -q -b main work && cd work
for i in $(seq 40); do mkdir -p "d$((i % 7))"; seq "$i" 500 > "d$((i % 7))/f$i"; git add .; git commit -qm "commit $i"; done
git switch -qc side HEAD~10
for i in $(seq 5); do echo "side $i" > "side$i"; git add .; git commit -qm "side $i"; done
git switch -q main
git merge -q -m merge side
git rebase -q HEAD~3
git log --oneline | wc -l
git rev-parse HEAD 'HEAD^{tree}'
git gc -q
git fsck --full --strict
cd ..
git clone -q work copy && git -C copy rev-parse HEAD
git daemon --base-path=/tmp/git --export-all --reuseaddr --listen=127.0.0.1 --port=9418 --detach --pid-file=/tmp/git/pid
for try in $(seq 50); do git ls-remote git://127.0.0.1/work > /dev/null 2>&1 && break; sleep 0.1; done
git clone -q git://127.0.0.1/work served && git -C served rev-parse HEAD
kill "$(cat pid)"
cd copy && echo change >> side1 && git stash -q && git status --short && git stash pop -q && git diff --stat | cat
git worktree add -q ../tree HEAD~1 && git -C ../tree rev-parse HEAD
git archive HEAD | sha256sum
