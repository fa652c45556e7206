package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// benchmarked builds imprint and prepares a registry at a distance, with a key, a chain and n images.
func benchmarked(b *testing.B, n int) (binary, dir string, server *regtest.Server, refs []string) {
	b.Helper()
	dir = b.TempDir()
	binary = filepath.Join(dir, "imprint")
	c := exec.Command("make", "-s", "build", "DIST="+dir)
	c.Dir = ".."
	if out, err := c.CombinedOutput(); err != nil {
		b.Fatalf("make build: %v\n%s", err, out)
	}
	key, chain := certtest.ChainOf(3, "P-256")
	for name, content := range map[string][]byte{"leaf.key": certtest.KeyPEM(key), "chain.pem": certtest.PEM(chain...), "root.pem": certtest.PEM(chain[2])} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	server = regtest.New(b, regtest.WithAPI)
	for i := range n {
		repo := fmt.Sprintf("%s/bench%d", server.Host, i)
		refs = append(refs, pushed(b, image(repo), repo, "v1"))
	}
	server.Latency(distance)
	return binary, dir, server, refs
}

func execute(b *testing.B, binary, dir string, args ...string) time.Duration {
	b.Helper()
	c := exec.CommandContext(context.Background(), binary, args...)
	c.Dir = dir
	c.Env = []string{"HOME=" + dir}
	began := time.Now()
	if out, err := c.CombinedOutput(); err != nil {
		b.Fatalf("imprint %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return time.Since(began)
}

// BenchmarkSignBatch signs 100 references 20 ms away in one process, and by a process each; "times-faster" is the ratio.
func BenchmarkSignBatch(b *testing.B) {
	binary, dir, _, refs := benchmarked(b, 100)
	if err := os.WriteFile(filepath.Join(dir, "list"), []byte(strings.Join(refs, "\n")), 0o600); err != nil {
		b.Fatal(err)
	}
	sign := []string{"--key", "leaf.key", "--chain", "chain.pem", "--again", "-q"}
	var batch, each time.Duration
	for b.Loop() {
		batch += execute(b, binary, dir, append([]string{"sign", "--batch", "list"}, sign...)...)
		for _, ref := range refs {
			each += execute(b, binary, dir, append([]string{"sign", ref}, sign...)...)
		}
	}
	b.ReportMetric(batch.Seconds()/float64(b.N), "s/batch")
	b.ReportMetric(each.Seconds()/float64(b.N), "s/each")
	b.ReportMetric(each.Seconds()/batch.Seconds(), "times-faster")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkVerify judges one of our signatures 20 ms away.
func BenchmarkVerify(b *testing.B) {
	binary, dir, server, refs := benchmarked(b, 1)
	execute(b, binary, dir, "sign", refs[0], "--key", "leaf.key", "--chain", "chain.pem", "-q")
	server.Reset()
	n := 0
	for b.Loop() {
		execute(b, binary, dir, "verify", refs[0], "--root", "root.pem")
		n++
	}
	b.ReportMetric(float64(server.Count(nil))/float64(n), "requests/op")
}

// BenchmarkVersion is the start of the program alone.
func BenchmarkVersion(b *testing.B) {
	binary, dir, _, _ := benchmarked(b, 0)
	for b.Loop() {
		execute(b, binary, dir, "version")
	}
}
