package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// BenchmarkVerifyBatch judges 1,000 references of one repository 20 ms away, 16 at once, by a policy with timestamps and revocation off.
//
// "s-floor": each of 16 jobs does its share of the references one after another, and none takes less than the longest chain of requests
// that wait for one another, as it is seen of one reference alone ("round-trips/reference": the tag, the list, the signature, whose
// envelope is in its manifest). "times-floor" is what the run took of that, the start of the program and the policy included.
// "peak-MiB-1000" is the most memory that the process had (VmHWM).
func BenchmarkVerifyBatch(b *testing.B) {
	const references, jobs = 1000, 16
	s := newStock(b, references)
	for i := range s.signatures {
		s.signatures[i] = s.signatures[i][:1]
	}
	dir, binary := shipped(b)
	e, err := envelope.Parse(s.signatures[0][0].MediaType, s.signatures[0][0].Envelope)
	if err != nil {
		b.Fatal(err)
	}
	server := regtest.New(b, regtest.WithAPI)
	const path = "team/app"
	s.store(b, server, path, references)
	var list strings.Builder
	for i := range references {
		fmt.Fprintf(&list, "%s/%s:v%d\n", server.Host, path, i)
	}
	for name, content := range map[string][]byte{
		"root.pem":    certtest.PEM(e.Unverified().Chain.Root()),
		"policy.yaml": fmt.Appendf(nil, "version: 1\nroots: {acme: {certificates: [root.pem], identities: [\"O=Acme, CN=release\"]}}\nscopes: {%q: [acme]}\n", server.Host+"/team"),
		"list":        []byte(list.String()),
		"one":         []byte(server.Host + "/" + path + ":v0\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	server.Latency(distance)
	verify := func(list string) ran {
		server.Reset()
		return run(b, binary, dir, "verify", "--batch", list, "--policy", "policy.yaml", "--jobs", strconv.Itoa(jobs), "-o", "json")
	}
	verify("one")
	each := server.RoundTrips()
	floor := time.Duration(each*((references+jobs-1)/jobs)) * distance
	var took, processor time.Duration
	var peak float64
	for b.Loop() {
		r := verify("list")
		if n := strings.Count(r.stdout, `"verdict":"accepted"`); n != references {
			b.Fatalf("%d of %d are accepted\n%.2000s", n, references, r.stdout)
		}
		took, processor, peak = took+r.took, r.processor, max(peak, r.peak)
	}
	mean := took.Seconds() / float64(b.N)
	b.ReportMetric(mean, "s/1000")
	b.ReportMetric(processor.Seconds(), "s-processor") // of imprint alone; the registry has some too
	b.ReportMetric(floor.Seconds(), "s-floor")
	b.ReportMetric(mean/floor.Seconds(), "times-floor")
	b.ReportMetric(float64(each), "round-trips/reference")
	b.ReportMetric(float64(server.Count(nil))/references, "requests/reference")
	b.ReportMetric(peak, "peak-MiB-1000")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkVerifyFlood judges one artifact with a thousand referrers of junk, most of which say that they are signatures, by the program as
// it is shipped: with envelopes of a few hundred bytes, and with larger ones, up to the 1 MiB that an envelope may have.
func BenchmarkVerifyFlood(b *testing.B) {
	for _, size := range []int{0, 16 << 10, 256 << 10, 760 << 10} { // as signed, in base64, a third more
		for _, kind := range regtest.Kinds {
			b.Run(fmt.Sprintf("%s-%dKiB", kind, size>>10), func(b *testing.B) {
				dir, binary := shipped(b)
				f := newFlood(b, kind, 1000, size)
				var r ran
				for b.Loop() {
					f.server.Reset()
					r = run(b, binary, dir, "verify", f.ref(), "--policy", filepath.Join(f.dir, "policy.yaml"), "-o", "json")
				}
				b.ReportMetric(float64(f.server.Count(nil))/float64(f.signatures), "requests/signature")
				b.ReportMetric(r.peak, "peak-MiB")
			})
		}
	}
}

// shipped makes the program as it is shipped, in a folder of its own.
func shipped(b *testing.B) (dir, binary string) {
	b.Helper()
	dir = b.TempDir()
	c := exec.Command("make", "-s", "build", "DIST="+dir)
	c.Dir = ".."
	if out, err := c.CombinedOutput(); err != nil {
		b.Fatalf("make build: %v\n%s", err, out)
	}
	return dir, filepath.Join(dir, "imprint")
}

// A ran is a run that succeeded: what it said, and what it took.
type ran struct {
	stdout          string
	took, processor time.Duration
	peak            float64 // MiB
}

func run(b *testing.B, binary, dir string, args ...string) ran {
	b.Helper()
	c := exec.CommandContext(b.Context(), binary, args...)
	c.Dir = dir
	c.Env = []string{"HOME=" + dir}
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	began := time.Now()
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	done, most := make(chan struct{}), make(chan int64)
	go func() { most <- peakOf(c.Process.Pid, done) }()
	err := c.Wait()
	r := ran{stdout.String(), time.Since(began), c.ProcessState.UserTime() + c.ProcessState.SystemTime(), 0}
	close(done)
	r.peak = float64(<-most) / (1 << 20)
	if err != nil {
		b.Fatalf("imprint %s: %v\n%.2000s\n%.2000s", strings.Join(args, " "), err, stderr.String(), stdout.String())
	}
	return r
}
