# Go: a module is tested and built, with the race detector too, and run: goroutines, a server and its client, signals, timers.
set -eu
mkdir -p /tmp/go && cd /tmp/go
export GOCACHE=/tmp/gocache GOFLAGS=-mod=mod GOPROXY=off
cat > go.mod <<'END'
module example.test/small
go 1.19
END
cat > main.go <<'END'
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func Sum(n int) (sum int) {
	for i := 0; i < n; i++ {
		sum = (sum*31 + i) % 1000003
	}
	return sum
}

func main() {
	var wait sync.WaitGroup
	results := make(chan int, 1000)
	for i := 0; i < 1000; i++ {
		wait.Add(1)
		go func(n int) { defer wait.Done(); results <- Sum(n * 10) }(i)
	}
	wait.Wait()
	close(results)
	total := 0
	for r := range results {
		total += r
	}
	fmt.Println("goroutines", total)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "path ", r.URL.Path) }))
	length := 0
	for i := 0; i < 100; i++ {
		answer, err := http.Get(fmt.Sprintf("http://%s/%d", listener.Addr(), i))
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		length += len(body)
	}
	fmt.Println("http", length)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	fmt.Println("signal", <-signals)
	ticks := time.NewTicker(2 * time.Millisecond)
	for i := 0; i < 20; i++ {
		<-ticks.C
	}
	out, err := exec.Command("sh", "-c", "echo child; exit 3").Output()
	fmt.Printf("%s%v\n", out, err)
	defer func() { fmt.Println("recovered", recover()) }()
	var nothing *http.Request
	fmt.Println(nothing.URL)
}
END
cat > main_test.go <<'END'
package main

import "testing"

func TestSum(t *testing.T) {
	if Sum(3) != 33 {
		t.Fatal(Sum(3))
	}
}
END
go vet .
go test . | sed 's/\t[0-9.]*s$//'
go build -o small . && ./small
go build -race -o race . && ./race
go version | cut -d' ' -f1-3
