package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// distance is what each request takes on its way, so that what may overlap does.
const distance = 20 * time.Millisecond

// A budget is what a command may cost: requests in all, and one after another.
type budget struct{ requests, row int }

// TestRequests counts what the common commands ask of a registry: few requests, and few that wait for one another. It
// runs alone: what may overlap must not wait for another test.
func TestRequests(t *testing.T) {
	// What the fallback index may cost on top: reading and writing it, and reading it back twice to see it settled.
	settling := budget{4, 6}
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			server := regtest.New(t, kind)
			server.Latency(distance)
			p := newPerson(t)
			key, chain := certtest.ChainOf(3, "P-256")
			foreignKey, foreignChain := certtest.ChainOf(3, "P-256")
			args := []string{"--key", p.file("leaf.key", certtest.KeyPEM(key)), "--chain", p.file("chain.pem", certtest.PEM(chain...))}
			ours, theirs := p.file("root.pem", certtest.PEM(chain[2])), p.file("foreign.pem", certtest.PEM(foreignChain[2]))
			costs := func(name string, most budget, args ...string) {
				t.Helper()
				server.Reset()
				p.want(t, 0, "", args...)
				n, row := server.Count(nil), server.RoundTrips()
				t.Logf("%s: %d requests, %d in a row", name, n, row)
				if n > most.requests || row > most.row {
					t.Errorf("%s: %d requests, %d in a row; want at most %d, %d", name, n, row, most.requests, most.row)
					for _, r := range server.Requests() {
						t.Logf("  %s %s %d", r.Method, strings.ReplaceAll(r.Path, "sha256:", ""), r.Status)
					}
				}
			}
			plus := func(b budget) budget {
				if kind == regtest.WithoutAPI {
					return budget{b.requests + settling.requests, b.row + settling.row}
				}
				return b
			}
			look := func(b budget) budget { // the API is asked, then the tag
				if kind == regtest.WithoutAPI {
					return budget{b.requests + 1, b.row + 1}
				}
				return b
			}

			ref := pushed(t, image("beside"), server.Host+"/beside", "v1")
			if err := judge.Sign(t.Context(), ref, foreignKey, foreignChain, judge.SignOptions{}); err != nil {
				t.Fatal(err)
			}
			costs("verify a foreign signature", look(budget{4, 4}), "verify", ref, "--root", theirs)
			costs("sign beside a foreign signature", plus(budget{9, 4}), append([]string{"sign", ref}, args...)...)
			costs("sign again, which writes nothing", look(budget{5, 4}), append([]string{"sign", ref}, args...)...)

			ref = pushed(t, image("alone"), server.Host+"/alone", "v1")
			// An empty list is no answer yet: the tag may hold what the API does not (G11).
			costs("sign where nothing is", plus(budget{8, 5}), append([]string{"sign", ref}, args...)...)
			costs("verify one of ours", look(budget{3, 3}), "verify", ref, "--root", ours)
		})
	}
}

// TestRequestsBatch: a hundred references in one process share connections and time: a tenth of the waiting of a process each.
func TestRequestsBatch(t *testing.T) {
	const references = 100
	server := regtest.New(t, regtest.WithAPI)
	p := newPerson(t)
	key, chain := certtest.ChainOf(3, "P-256")
	args := []string{"--key", p.file("leaf.key", certtest.KeyPEM(key)), "--chain", p.file("chain.pem", certtest.PEM(chain...))}
	// Far enough that the time which signing takes does not count, with the race detector too; further if the machine is busy.
	for try, distance := 1, 3*distance; ; try, distance = try+1, 2*distance {
		server.Latency(0)
		var list strings.Builder
		for i := range references {
			repo := fmt.Sprintf("%s/batch%d-%d", server.Host, try, i)
			fmt.Fprintln(&list, pushed(t, image(repo), repo, "v1"))
		}
		alone := pushed(t, image("alone"), fmt.Sprintf("%s/alone%d", server.Host, try), "v1")
		server.Latency(distance)
		server.Reset()
		p.want(t, 0, "", append([]string{"sign", alone}, args...)...)
		one := server.RoundTrips()

		server.Reset()
		o := p.want(t, 0, "", append([]string{"sign", "--batch", p.file("list", []byte(list.String()))}, args...)...)
		if done := o.field(t, "done"); done != fmt.Sprint(references) {
			t.Fatalf("%s done", done)
		}
		row := server.RoundTrips()
		t.Logf("%d requests; %d in a row, one alone %d", server.Count(nil), row, one)
		if row*10 <= references*one {
			return
		}
		if try == 3 {
			t.Fatalf("%d references wait for %d requests in a row, one alone for %d: want a tenth of %d", references, row, one, references*one)
		}
	}
}
