package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// shardOf says again how items are shared out: who does what must be the same in every version.
func shardOf(line string, n int) int {
	sum := sha256.Sum256([]byte(strings.Join(strings.Fields(line), " ")))
	return int(binary.BigEndian.Uint64(sum[:8]) % uint64(n))
}

// TestShards: 8 processes share one list of 1,000, two of them are killed on the way (SIGKILL) and started again. Each
// item is done, and no tag is written twice.
func TestShards(t *testing.T) {
	t.Parallel()
	const n, shards, after = 1000, 8, 7     // tags that a process writes before it is killed
	binary, err := exec.LookPath("imprint") // this test binary, by another name
	if err != nil {
		t.Fatal(err)
	}
	source, dest := newFake(t), newFake(t)
	names := thousands(source, n)
	list := pairs(source, dest, names)
	p := newPerson(t)
	file := p.file("list", []byte(list))
	shard := map[string]int{}
	for i, line := range slices.Collect(strings.Lines(list)) {
		shard[names[i]] = shardOf(line, shards)
	}

	var mu sync.Mutex
	written := map[string]int{}
	var by [shards]int
	kill := map[int]context.CancelFunc{} // by shard
	dest.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		name, ok := tagPut(r)
		if !ok {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		written[name]++
		i := shard[name]
		if by[i]++; by[i] == after && kill[i] != nil {
			kill[i]()
		}
		return false
	})
	run := func(ctx context.Context, i int) (stdout string, err error) {
		c := exec.CommandContext(ctx, binary, "copy", "--batch", file, "--shard", fmt.Sprintf("%d/%d", i, shards), "--jobs", "4", "-o", "json")
		c.Env = append(slices.Clone(p.env), "GORACE="+quickExit)
		var out, talk bytes.Buffer
		c.Stdout, c.Stderr = &out, &talk
		if err = c.Run(); err != nil {
			err = fmt.Errorf("shard %d: %w\n%s", i, err, talk.String())
		}
		return out.String(), err
	}
	killed := []int{2, 5}
	var wg sync.WaitGroup
	for i := range shards {
		ctx, cancel := context.WithCancel(t.Context()) // exec kills by SIGKILL
		defer cancel()
		if slices.Contains(killed, i) {
			mu.Lock()
			kill[i] = cancel
			mu.Unlock()
		}
		wg.Go(func() {
			_, err := run(ctx, i)
			var exited *exec.ExitError
			switch {
			case !slices.Contains(killed, i):
				if err != nil {
					t.Error(err)
				}
			case !errors.As(err, &exited) || exited.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL:
				t.Errorf("shard %d was not killed: %v", i, err)
			}
		})
	}
	wg.Wait()
	mu.Lock()
	done := len(written)
	clear(kill)
	mu.Unlock()
	if done >= n {
		t.Fatal("nothing was left to do for those that were killed")
	}

	for _, i := range killed {
		wg.Go(func() {
			out, err := run(t.Context(), i)
			if err != nil {
				t.Error(err)
				return
			}
			var sum struct {
				Shard       string
				Items, Done int
				Statuses    map[string]int
			}
			all := strings.Split(strings.TrimSpace(out), "\n")
			if err := json.Unmarshal([]byte(all[len(all)-1]), &sum); err != nil {
				t.Error(err)
			}
			if sum.Shard != fmt.Sprintf("%d/%d", i, shards) || sum.Items != sum.Done || sum.Items == 0 || sum.Statuses["there already"] == 0 {
				t.Errorf("the second run of shard %d: %+v", i, sum)
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	for _, name := range names {
		if written[name] != 1 {
			t.Errorf("%s was written %d times", name, written[name])
		}
	}
	if len(written) != n {
		t.Errorf("%d tags were written, want %d", len(written), n)
	}
	same(t, source, dest)
}
