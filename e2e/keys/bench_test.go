package keys

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/kmstest/awstest"
)

const (
	batchSize = 1000
	keyTime   = 20 * time.Millisecond // of one call of the key service
	batchJobs = 16
)

// BenchmarkSign1000 signs 1,000 images in one process with a key service 20 ms away, 16 at once, and the same batch with a key in a
// file. "in-flight" is the most calls of the key service at once, "of-floor" the wall time over the larger of the key's floor
// (1,000 × 20 ms / 16) and the file key's, "rss-growth" the memory of 1,000 over that of 100.
func BenchmarkSign1000(b *testing.B) {
	service := awstest.New(b)
	d := newDesk(b, service.Environ()...)
	key := certtest.Key("P-256")
	chain := d.chainFor(key.Public(), "release")
	uri := "awskms:///" + service.AddKey("release", key)
	file := "file:" + d.file("release.key", certtest.KeyPEM(key))
	app := d.repo
	service.Latency(keyTime)

	n := 0
	run := func(key string, size int) (time.Duration, int64) {
		refs := make([]string, size)
		for i := range refs {
			n++
			d.repo = fmt.Sprintf("%s%d", app, n) // a repository each: the registry in memory searches a repository for referrers
			refs[i] = d.image(b, fmt.Sprint(n), "v1")
		}
		list := d.file("list", []byte(strings.Join(refs, "\n")))
		c := exec.Command(filepath.Join(built, "imprint"), "sign", "--batch", list, "--key", key, "--chain", chain, "--jobs", fmt.Sprint(batchJobs), "-q")
		c.Env = d.env
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		begun := time.Now()
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		peak := make(chan int64, 1)
		go func() { peak <- peakMemory(c.Process.Pid) }()
		if err := c.Wait(); err != nil {
			b.Fatalf("%v\n%.2000s", err, out.Bytes())
		}
		return time.Since(begun), <-peak
	}

	var remote, local time.Duration
	var small, large int64
	for b.Loop() {
		_, rss := run(uri, batchSize/10)
		small += rss
		took, _ := run(file, batchSize)
		local += took
		took, rss = run(uri, batchSize)
		remote += took
		large += rss
	}
	floor := max(keyTime*batchSize/batchJobs, local/time.Duration(b.N))
	b.ReportMetric(remote.Seconds()/float64(b.N), "s/kms")
	b.ReportMetric(local.Seconds()/float64(b.N), "s/file")
	b.ReportMetric(remote.Seconds()/float64(b.N)/floor.Seconds(), "of-floor")
	b.ReportMetric(float64(service.Peak()), "in-flight")
	b.ReportMetric(float64(large)/float64(b.N)/1e6, "MB-rss")
	b.ReportMetric(float64(large)/float64(small), "rss-growth")
	b.ReportMetric(float64(service.Calls("GetPublicKey"))/float64(2*b.N), "describes/batch")
	b.ReportMetric(0, "ns/op")
}

// peakMemory follows a process to its end and returns the most memory that it had resident, bytes. (What wait4 says of a child
// counts its parent's too.)
func peakMemory(pid int) (peak int64) {
	for ; ; time.Sleep(5 * time.Millisecond) {
		f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return peak
		}
		alive := false
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var kib int64
			if n, _ := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &kib); n == 1 {
				peak, alive = max(peak, kib<<10), true
			}
		}
		f.Close()
		if !alive {
			return peak
		}
	}
}
