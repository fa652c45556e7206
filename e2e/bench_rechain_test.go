package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// BenchmarkRechainAll renews 2,000 signatures (1,000 artifacts, two each) 20 ms away, 32 at once.
//
// "floor": each of 32 jobs does its share of the artifacts one after another, and none takes less than the longest chain
// of requests that wait for one another, as it is seen of one artifact alone (regtest's RoundTrips, without the listing of
// the tags, which is once for all). "times-floor" is what the run took of that. "peak-MiB-200" and "-2000" are the most
// memory that the process had (VmHWM) with so many signatures.
func BenchmarkRechainAll(b *testing.B) {
	const artifacts, few, jobs = 1000, 100, 32
	dir := b.TempDir()
	binary := filepath.Join(dir, "imprint")
	c := exec.Command("make", "-s", "build", "DIST="+dir)
	c.Dir = ".."
	if out, err := c.CombinedOutput(); err != nil {
		b.Fatalf("make build: %v\n%s", err, out)
	}
	s := newStock(b, artifacts)
	if err := os.WriteFile(filepath.Join(dir, "renewed.pem"), s.renewed, 0o600); err != nil {
		b.Fatal(err)
	}
	server := regtest.New(b, regtest.WithAPI)
	n := 0
	// rechain renews so many artifacts.
	var processor time.Duration // of the last run
	rechain := func(artifacts int) (took time.Duration, peak float64, trips, requests int) {
		server.Latency(0)
		n++
		path := fmt.Sprint("app", n)
		s.store(b, server, path, artifacts)
		server.Latency(distance)
		server.Reset()
		p := exec.CommandContext(b.Context(), binary, "rechain", "--all", server.Host+"/"+path, "--chain", "renewed.pem", "--jobs", strconv.Itoa(jobs), "-q")
		p.Dir = dir
		p.Env = []string{"HOME=" + dir}
		var out strings.Builder
		p.Stdout, p.Stderr = &out, &out
		began := time.Now()
		if err := p.Start(); err != nil {
			b.Fatal(err)
		}
		done, most := make(chan struct{}), make(chan int64)
		go func() { most <- peakOf(p.Process.Pid, done) }()
		err := p.Wait()
		took = time.Since(began)
		close(done)
		processor = p.ProcessState.UserTime() + p.ProcessState.SystemTime()
		peak = float64(<-most) / (1 << 20)
		if err != nil || !strings.Contains(out.String(), strconv.Itoa(2*artifacts)) && artifacts < 500 {
			b.Fatalf("imprint rechain --all: %v\n%s", err, out.String())
		}
		return took, peak, server.RoundTrips(), server.Count(nil)
	}
	_, _, alone, _ := rechain(1)
	each := alone - 1 // without the list of tags
	floor := time.Duration(1+each*((artifacts+jobs-1)/jobs)) * distance
	_, small, _, _ := rechain(few)
	var took time.Duration
	var large float64
	var requests int
	for b.Loop() {
		d, peak, _, asked := rechain(artifacts)
		took += d
		large, requests = max(large, peak), asked
	}
	mean := took.Seconds() / float64(b.N)
	b.ReportMetric(mean, "s/2000")
	b.ReportMetric(processor.Seconds(), "s-processor") // of imprint alone; the registry has some too
	b.ReportMetric(floor.Seconds(), "s-floor")
	b.ReportMetric(mean/floor.Seconds(), "times-floor")
	b.ReportMetric(float64(each), "round-trips/artifact")
	b.ReportMetric(float64(requests)/(2*artifacts), "requests/signature")
	b.ReportMetric(small, "peak-MiB-200")
	b.ReportMetric(large, "peak-MiB-2000")
	b.ReportMetric(0, "ns/op")
}

// peakOf polls how much memory a process had at most.
func peakOf(pid int, done <-chan struct{}) int64 {
	file := fmt.Sprintf("/proc/%d/status", pid)
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	var most int64
	for {
		text, _ := os.ReadFile(file)
		if _, rest, ok := strings.Cut(string(text), "VmHWM:"); ok {
			if words := strings.Fields(rest); len(words) > 0 {
				kB, _ := strconv.ParseInt(words[0], 10, 64)
				most = max(most, kB<<10)
			}
		}
		select {
		case <-done:
			return most
		case <-tick.C:
		}
	}
}
