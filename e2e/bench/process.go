package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A cost is what processes took that ran one after another.
type cost struct {
	wall, cpu time.Duration
	rss       int64 // bytes, of the largest; 0: not known
}

// execute runs commands of a tool one after another. An error carries what they said.
func execute(ctx context.Context, path string, env []string, commands [][]string) (cost, error) {
	var c cost
	began := time.Now()
	for _, args := range commands {
		p := exec.CommandContext(ctx, path, args...)
		p.Env = env
		var said bytes.Buffer
		p.Stdout, p.Stderr = &said, &said
		if err := p.Start(); err != nil {
			return c, err
		}
		done, rss := make(chan struct{}), make(chan int64)
		go func() { rss <- watch(p.Process.Pid, done) }()
		err := p.Wait()
		close(done)
		c.rss = max(c.rss, <-rss)
		c.cpu += p.ProcessState.UserTime() + p.ProcessState.SystemTime()
		if err != nil {
			text := strings.TrimSpace(said.String())
			return c, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, text[max(0, len(text)-500):])
		}
	}
	c.wall = time.Since(began)
	return c, nil
}

// watch polls how much memory a process had at most. The kernel also keeps that figure for the parent of a process that
// has ended, but counts what this process had when it forked.
func watch(pid int, done <-chan struct{}) int64 {
	file := fmt.Sprintf("/proc/%d/status", pid)
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	var most int64
	for {
		if text, err := os.ReadFile(file); err == nil {
			most = max(most, peak(string(text)))
		}
		select {
		case <-done:
			return most
		case <-tick.C:
		}
	}
}

// peak reads VmHWM.
func peak(status string) int64 {
	_, rest, ok := strings.Cut(status, "VmHWM:")
	if !ok {
		return 0
	}
	words := strings.Fields(rest)
	if len(words) == 0 {
		return 0
	}
	kB, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil {
		return 0
	}
	return kB << 10
}
