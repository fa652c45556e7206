package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/fixture"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// What goes wrong on the way (F05, F06, F37, F40 to F46), through copy: broken lines under large blobs, and what is wrong with the machine that
// imprint runs on. F36 is in cases_copy_disk_test.go. F43 (files beside what they become) and the resolver of F46 are tested in registry alone:
// no flag and no environment leads there.

// start is a process of imprint that has not begun yet.
func (p *person) start(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath("imprint") // this test binary, by another name
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), program, args...)
	c.Env = append(slices.Clone(p.env), "GORACE="+quickExit)
	return c
}

// A shear cuts one transfer of a server after a number of bytes: the first whose body is longer.
type shear struct {
	at   int64
	done atomic.Bool
}

// passing cuts what a registry sends.
type passing struct {
	http.ResponseWriter
	s    *shear
	sent int64
}

func (p *passing) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *passing) Write(b []byte) (int, error) {
	n, err := p.ResponseWriter.Write(b)
	if p.sent += int64(n); p.sent >= p.s.at && p.s.done.CompareAndSwap(false, true) {
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// arriving cuts what a registry is sent: it keeps what has come by then.
type arriving struct {
	http.ResponseWriter
	r    *http.Request
	s    *shear
	got  int64
	read interface {
		Read([]byte) (int, error)
		Close() error
	}
}

var errSheared = errors.New("the line broke")

func (a *arriving) Close() error { return a.read.Close() }

func (a *arriving) Read(b []byte) (int, error) {
	if a.got >= a.s.at && a.s.done.CompareAndSwap(false, true) {
		return 0, errSheared
	}
	if !a.s.done.Load() {
		b = b[:min(int64(len(b)), max(1, a.s.at-a.got))]
	}
	n, err := a.read.Read(b)
	a.got += int64(n)
	return n, err
}

// TestBigCut: of a blob whose line breaks at seven eighths, on either side, once, no more than a tenth travels twice; memory stays flat. With
// IMPRINT_BIG=1 in the environment it has 1 GiB, cut at 900 MiB, and registries that keep it on disk.
func TestBigCut(t *testing.T) {
	t.Parallel()
	size, at := int64(64<<20), int64(56<<20)
	big := os.Getenv("IMPRINT_BIG") == "1"
	if big {
		size, at = 1<<30, 900<<20
	}
	for _, kind := range regtest.Kinds {
		if big && kind == regtest.WithAPI { // it has everything in memory
			continue
		}
		source := regtest.StartFiles(t.TempDir())
		t.Cleanup(source.Close)
		a, err := fixture.Big(t.Context(), source.Host+"/team/big:v1", size, fixture.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, side := range []string{"F05 source", "F06 destination"} {
			t.Run(side+" "+string(kind), func(t *testing.T) {
				from := regtest.Serve(t, source.Handler())
				var to *regtest.Server
				if kind == regtest.WithoutAPI {
					to = regtest.StartFiles(t.TempDir())
					t.Cleanup(to.Close)
				} else {
					to = regtest.New(t, kind)
				}
				s := &shear{at: at}
				var c *exec.Cmd
				var memory atomic.Int64
				began := make(chan struct{})
				upload := func(http.ResponseWriter, *http.Request) bool { return false }
				if side == "F05 source" {
					from.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
						if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") || s.done.Load() {
							return false
						}
						from.Handler().ServeHTTP(&passing{ResponseWriter: w, s: s}, r)
						return true
					})
				} else {
					upload = func(_ http.ResponseWriter, r *http.Request) bool {
						if r.ContentLength < at || s.done.Load() {
							return false
						}
						r.Body = &arriving{r: r, s: s, read: r.Body}
						to.Handler().ServeHTTP(cutOff{header: http.Header{}}, r)
						panic(http.ErrAbortHandler)
					}
				}
				to.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
					if strings.HasSuffix(r.URL.Path, "/manifests/v1") { // the last one
						<-began
						memory.Store(peak(t, c.Process.Pid))
					}
					return upload(w, r)
				})
				p := newPerson(t)
				c = p.start(t, "copy", from.Host+"/team/big:v1", to.Host+"/prod/big", "-q")
				c.Env = append(c.Env, "GOMEMLIMIT=40MiB") // F44
				var out bytes.Buffer
				c.Stdout, c.Stderr = &out, &out
				start := time.Now()
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				close(began)
				if err := c.Wait(); err != nil {
					t.Fatalf("%v\n%s", err, out.String())
				}
				took := time.Since(start)
				if !s.done.Load() {
					t.Fatal("nothing was cut")
				}
				var read, written int64
				for _, r := range from.Requests() {
					read += r.Out
				}
				for _, r := range to.Requests() {
					written += r.In
				}
				t.Logf("%d MiB cut at %d: %.1f MiB were read (%.3f of it) and %.1f written (%.3f) in %s; %d KiB of memory", size>>20, at>>20,
					float64(read)/(1<<20), float64(read)/float64(size), float64(written)/(1<<20), float64(written)/float64(size), took.Round(time.Millisecond), memory.Load())
				// What the socket's buffers hold was sent, too, though nobody has read it.
				if limit := size + size/10 + 8<<20; read > limit || written > limit || read < size || written < size {
					t.Errorf("%d bytes were read and %d written of %d", read, written, size)
				}
				if !raced && memory.Load() > 64<<10 {
					t.Errorf("it took %d KiB of memory", memory.Load())
				}
				from.Intercept(nil)
				to.Intercept(nil)
				want, err := fixture.WalkManifests(t.Context(), a.Reference)
				if err != nil {
					t.Fatal(err)
				}
				got, err := fixture.Walk(t.Context(), to.Host+"/prod/big:v1")
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("%v\n%s", err, diff)
				}
			})
		}
	}
}

// peak is the most memory that a process has had so far, in KiB; 0 where nobody tells. (What wait4 tells of a process begins with the memory of
// the one that started it.)
func peak(t *testing.T, pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Error(err)
	}
	_, after, _ := strings.Cut(string(b), "VmHWM:")
	var n int64
	_, _ = fmt.Sscan(after, &n)
	return n
}

// cutOff is where an answer goes that nobody gets.
type cutOff struct{ header http.Header }

func (c cutOff) Header() http.Header         { return c.header }
func (c cutOff) Write(b []byte) (int, error) { return len(b), nil }
func (c cutOff) WriteHeader(int)             {}

// TestF37NoHome: copy has no cache; where nothing can be written and there is no home it works all the same.
func TestF37NoHome(t *testing.T) {
	t.Parallel()
	c := newPassageway(t, regtest.WithAPI, regtest.WithoutAPI)
	c.env = []string{"HOME=/proc/nowhere", "DOCKER_CONFIG=/proc/nowhere", "TMPDIR=/proc/nowhere", "XDG_CACHE_HOME=/proc/nowhere", "PATH=" + os.Getenv("PATH")}
	if o := c.process(t, append(c.copy(), "-o", "json")...); o.code != 0 {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	c.whole(t)
}

// TestF40ClosedPipe: who reads the answer goes away: the work is done all the same, and only if it is not the exit code says so.
func TestF40ClosedPipe(t *testing.T) {
	t.Parallel()
	c := newPassageway(t, regtest.WithAPI, regtest.WithAPI)
	bad := newPassageway(t, regtest.WithAPI, regtest.WithAPI)
	bad.dest.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		failure(w, http.StatusForbidden, "DENIED")
		return true
	})
	for name, row := range map[string]struct {
		c      *passageway
		code   int
		script string
	}{
		"F40 head -c1":              {c, 0, `"$@" -o json --dry-run | head -c1 >/dev/null; exit ${PIPESTATUS[0]}`},
		"F40 nobody reads":          {c, 0, `"$@" -o json | true; exit ${PIPESTATUS[0]}`},
		"F40 nobody reads talk":     {c, 0, `"$@" 2>&1 | true; exit ${PIPESTATUS[0]}`},
		"F40 nobody reads, refused": {bad, 5, `"$@" -o json | true; exit ${PIPESTATUS[0]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bash, err := exec.LookPath("bash")
			if err != nil {
				t.Skip("bash is not installed")
			}
			inner := row.c.start(t, row.c.copy()...)
			outer := exec.CommandContext(t.Context(), bash, append([]string{"-c", row.script, "bash", inner.Path}, inner.Args[1:]...)...)
			outer.Env = inner.Env
			var stderr bytes.Buffer
			outer.Stderr = &stderr
			var exited *exec.ExitError
			if err := outer.Run(); err != nil && !errors.As(err, &exited) {
				t.Fatal(err)
			}
			if code := outer.ProcessState.ExitCode(); code != row.code || strings.Contains(stderr.String(), "goroutine ") {
				t.Errorf("exit code %d, want %d: %s", code, row.code, stderr.String())
			}
		})
	}
	t.Cleanup(func() {
		bad.untagged(t)
		if _, ok := stored(t, c.dest.Handler(), "prod/app", c.all)["/manifests/v1"]; !ok {
			t.Error("the work was not done")
		}
	})
}

// TestF41ClockJumps: a run has one time, by which all is judged, whatever the machine's clock does meanwhile.
func TestF41ClockJumps(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		first, then time.Duration
		code        int
		reason      string
	}{
		"F41 forward after the start":  {0, 100 * 365 * 24 * time.Hour, 0, ""},
		"F41 backward after the start": {0, -100 * 365 * 24 * time.Hour, 0, ""},
		"F41 right only after that":    {100 * 365 * 24 * time.Hour, 0, 1, "certificate-expired"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newPassageway(t, regtest.WithAPI, regtest.WithAPI)
			var asked atomic.Int32
			c.now = func() time.Time {
				if asked.Add(1) == 1 {
					return time.Now().Add(row.first)
				}
				return time.Now().Add(row.then)
			}
			c.want(t, row.code, row.reason, c.copy("--root", c.file("root.pem", certtest.PEM(c.a.Chain[len(c.a.Chain)-1])))...)
			if row.code == 0 {
				c.whole(t)
			} else {
				c.untagged(t)
			}
		})
	}
}

// TestF42OneLayout: eight processes copy into one layout at once, each another image with its signatures: all of it is there.
func TestF42OneLayout(t *testing.T) {
	t.Parallel()
	const processes = 8
	source := regtest.New(t, regtest.WithAPI)
	p := newPerson(t)
	dir := "oci:" + filepath.Join(p.dir, "layout")
	var all sync.WaitGroup
	wants := make([]fixture.Contents, processes)
	for i := range processes {
		tag := fmt.Sprintf("v%d", i)
		a, err := fixture.Single(t.Context(), source.Host+"/team/app:"+tag, fixture.Options{Layer: 500, Seed: uint64(i)})
		if err != nil {
			t.Fatal(err)
		}
		if wants[i], err = fixture.Walk(t.Context(), a.Reference); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if out, err := p.start(t, "copy", a.Reference, dir, "-q").CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", tag, err, out)
			}
		})
	}
	all.Wait()
	for i, want := range wants {
		got, err := fixture.Walk(t.Context(), fmt.Sprintf("%s:v%d", dir, i))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("v%d: %v\n%s", i, err, diff)
		}
	}
}

// TestF44FewFiles: with few file descriptors it is done or says clearly why not; nothing is half done, and no crash.
func TestF44FewFiles(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("sh is not installed")
	}
	for _, limit := range []int{64, 24, 12} {
		t.Run(fmt.Sprintf("F44 %d files", limit), func(t *testing.T) {
			t.Parallel()
			c := newPassageway(t, regtest.WithAPI, regtest.WithoutAPI)
			inner := c.start(t, append(c.copy(), "-o", "json")...)
			outer := exec.CommandContext(t.Context(), sh, append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, limit), "sh", inner.Path}, inner.Args[1:]...)...)
			outer.Env = inner.Env
			var stdout, stderr bytes.Buffer
			outer.Stdout, outer.Stderr = &stdout, &stderr
			_ = outer.Run()
			o := outcome{outer.ProcessState.ExitCode(), stdout.String(), stderr.String()}
			t.Logf("%d files: exit code %d, %s", limit, o.code, o.stderr)
			switch {
			case o.code == 0:
				c.whole(t)
			case o.code == 2 || limit == 64:
				t.Errorf("exit code %d: %s", o.code, o.stderr)
			default:
				c.untagged(t)
				if err := oneError("", withoutWarnings(o.stderr)); err != nil || !strings.Contains(o.stderr, "too many open files") {
					t.Errorf("%v: %s", err, o.stderr)
				}
			}
			c.want(t, 0, "", c.copy()...)
			c.whole(t)
		})
	}
}

// TestF45Proxies: a proxy that refuses is named; hosts of NO_PROXY and of this machine are reached without it.
func TestF45Proxies(t *testing.T) {
	t.Parallel()
	c := newPassageway(t, regtest.WithAPI, regtest.WithAPI)
	var asked sync.Map
	proxy := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Host, true)
		w.WriteHeader(http.StatusForbidden)
	}))
	c.env = append(c.env, "HTTPS_PROXY=http://somebody:"+password+"@"+proxy.Host, "HTTP_PROXY=http://"+proxy.Host, "NO_PROXY=direct.invalid")
	for name, row := range map[string]struct {
		args    []string
		code    int
		says    []string
		proxied bool
	}{
		"F45 loopback":               {c.copy(), 0, nil, false},
		"F45 source by proxy":        {[]string{"copy", "far.invalid/app:v1", c.dest.Host + "/other/app"}, 4, []string{"far.invalid", "through the proxy " + proxy.Host}, true},
		"F45 destination by proxy":   {[]string{"copy", c.a.Reference, "away.invalid/app"}, 4, []string{"away.invalid", "through the proxy " + proxy.Host}, true},
		"F45 NO_PROXY":               {[]string{"copy", "direct.invalid/app:v1", c.dest.Host + "/other/app"}, 4, []string{"direct.invalid"}, false},
		"F45 F46 localhost, no IPv6": {[]string{"copy", strings.Replace(c.a.Reference, "127.0.0.1", "localhost", 1), c.dest.Host + "/third/app"}, 0, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := c.process(t, append(row.args, "-o", "json")...)
			if o.code != row.code || row.code != 0 && o.field(t, "reason") != "registry-unavailable" {
				t.Errorf("exit code %d: %s%s", o.code, o.stdout, o.stderr)
			}
			for _, says := range row.says {
				if !strings.Contains(o.stderr, says) {
					t.Errorf("it does not say %q: %s", says, o.stderr)
				}
			}
			if strings.Contains(o.stdout+o.stderr, password) {
				t.Errorf("a secret is shown: %s", o.stderr)
			}
		})
	}
	t.Cleanup(func() {
		for host, want := range map[string]bool{"far.invalid:443": true, "away.invalid:443": true, "direct.invalid:443": false, c.dest.Host: false} {
			if _, ok := asked.Load(host); ok != want {
				t.Errorf("the proxy was asked for %s: %t", host, ok)
			}
		}
		if _, ok := stored(t, c.dest.Handler(), "prod/app", c.all)["/manifests/v1"]; !ok {
			t.Error("nothing was copied between hosts of this machine")
		}
	})
}

// The holes of the peers, through the command.

// TestHoleFirstWriteFails: the first write of a signature, or of the list that it is to stand in, is refused; run again, both are listed
// before the tag is written.
func TestHoleFirstWriteFails(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		kind regtest.Kind
		what string // of a manifest: signature or list
	}{
		"F1 signature, API":      {regtest.WithAPI, "signature"},
		"F1 signature, API only": {regtest.WithAPIOnly, "signature"},
		"F1 signature, no API":   {regtest.WithoutAPI, "signature"},
		"F4 fallback tag":        {regtest.WithoutAPI, "list"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newPassageway(t, regtest.WithAPI, row.kind)
			path := "/manifests/" + string(c.a.Referrers[0].Digest)
			if row.what == "list" {
				path = "/manifests/" + strings.Replace(string(c.a.Root.Digest), ":", "-", 1)
			}
			c.on(c.dest, http.MethodPut, path, atFirst(1, http.StatusForbidden, "DENIED"))
			o := c.run(t, append(c.copy(), "-o", "json")...)
			if o.code != 5 && o.code != 7 || o.field(t, "reason") != "forbidden" {
				t.Errorf("exit code %d: %s%s", o.code, o.stdout, o.stderr)
			}
			c.untagged(t)
			var late atomic.Bool
			c.on(c.dest, http.MethodPut, "/manifests/v1", func(int, http.ResponseWriter, *http.Request) bool {
				signatures, err := judge.Signatures(t.Context(), c.dest.Host+"/prod/app@"+string(c.a.Root.Digest))
				late.Store(err != nil || len(signatures) != 2)
				return false
			})
			c.want(t, 0, "", c.copy()...)
			if late.Load() {
				t.Error("the tag was written before both signatures were listed")
			}
			c.dest.Intercept(nil)
			c.whole(t)
		})
	}
}

// TestHoleEightProcesses: twenty signatures of one subject, copied by eight processes at once from as many places to a registry without the
// referrers API.
func TestHoleEightProcesses(t *testing.T) {
	t.Parallel()
	const processes, signatures = 8, 20
	rounds := 10
	if testing.Short() || raced {
		rounds = 3
	}
	p := newPerson(t)
	key, chain := certtest.ChainOf(3, "P-256")
	a := image("fan")
	source := regtest.New(t, regtest.WithAPI)
	for i := range processes {
		pushed(t, a, fmt.Sprintf("%s/part%d", source.Host, i), "v1")
	}
	for i := range signatures {
		ref := fmt.Sprintf("%s/part%d:v1", source.Host, i%processes)
		if err := judge.Sign(t.Context(), ref, key, chain, judge.SignOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	dest := regtest.New(t, regtest.WithoutAPI)
	var all sync.WaitGroup
	slots := make(chan struct{}, 3) // rounds at a time: they wait for the list to settle
	for round := range rounds {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			var crowd sync.WaitGroup
			to := fmt.Sprintf("%s/round%d", dest.Host, round)
			for i := range processes {
				crowd.Go(func() {
					if out, err := p.start(t, "copy", fmt.Sprintf("%s/part%d:v1", source.Host, i), to, "-q").CombinedOutput(); err != nil {
						t.Errorf("round %d, process %d: %v\n%s", round, i, err, out)
					}
				})
			}
			crowd.Wait()
			judgeEach(t, to+":v1", signatures, chain[2:])
		})
	}
	all.Wait()
}

// TestHoleOccupied: where the list of referrers should be there is the image itself: cosign copy puts it there, GitLab answers with it. It is
// neither believed nor overwritten.
func TestHoleOccupied(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"cosign", "GitLab"} {
		t.Run(who+", destination", func(t *testing.T) {
			t.Parallel()
			c := newPassageway(t, regtest.WithAPI, regtest.WithoutAPI)
			occupied := occupy(t, c, c.dest, "prod/app", who)
			c.want(t, 7, "fallback-tag-occupied", c.copy()...) // manifests are there by then, by digest
			c.dest.Intercept(nil)
			c.untagged(t)
			occupied()
		})
		t.Run(who+", source", func(t *testing.T) {
			t.Parallel()
			c := newPassageway(t, regtest.WithAPI, regtest.WithAPI)
			from := regtest.New(t, regtest.WithoutAPI)
			c.want(t, 0, "", "copy", c.a.Reference, from.Host+"/team/app", "--referrers", "none")
			occupied := occupy(t, c, from, "team/app", who)
			o := c.want(t, 0, "", "copy", from.Host+"/team/app:v1", c.dest.Host+"/prod/app")
			if o.field(t, "signatures") != "0" || o.field(t, "referrers") != "0" || o.field(t, "digest") != string(c.a.Root.Digest) {
				t.Errorf("what was believed: %s", o.stdout)
			}
			c.want(t, 1, "unsigned", "copy", from.Host+"/team/app:v1", c.dest.Host+"/prod/app", "--tag", "signed", "--require-signature")
			occupied()
		})
	}
}

// occupy makes a registry's fallback tag of the image be the image, and returns how to check that it still is.
func occupy(t *testing.T, c *passageway, s *regtest.Server, repo, who string) (check func()) {
	t.Helper()
	tag := strings.Replace(string(c.a.Root.Digest), ":", "-", 1)
	var writes atomic.Int32
	counted := func(r *http.Request) bool {
		at := strings.HasSuffix(r.URL.Path, "/manifests/"+tag)
		if at && r.Method != http.MethodGet && r.Method != http.MethodHead {
			writes.Add(1)
		}
		return at
	}
	if who == "GitLab" {
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if !counted(r) || r.Method == http.MethodPut {
				return false
			}
			r.URL.Path = "/v2/" + repo + "/manifests/" + string(c.a.Root.Digest)
			s.Handler().ServeHTTP(w, r)
			return true
		})
		// What it answers with is there.
		c.want(t, 0, "", "copy", c.a.Reference, s.Host+"/"+repo, "--referrers", "none", "--tag", "there")
	} else {
		c.want(t, 0, "", "copy", c.a.Reference, s.Host+"/"+repo, "--referrers", "none", "--tag", tag)
		s.Intercept(func(_ http.ResponseWriter, r *http.Request) bool { counted(r); return false })
	}
	return func() {
		t.Helper()
		if n := writes.Load(); n != 0 {
			t.Errorf("the fallback tag was written %d times", n)
		}
		target, err := opened(s.Host + "/" + repo)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := target.Resolve(t.Context(), tag); who == "cosign" && (err != nil || d.Digest != c.a.Root.Digest) {
			t.Errorf("it names %s, %v", d.Digest, err)
		}
	}
}
