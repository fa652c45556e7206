package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/e2e/fixture"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// F38 and F39, and the invariants I1 to I6 of every moment: copy and publish are ended at every request that they make, of whichever
// registry, in each of these ways.
type death string

const (
	unheard   death = "cut"          // in this process: the n-th request never gets there, and nothing follows it
	unseen    death = "cut answered" // the registry acts on the n-th, and nobody hears of it
	interrupt death = "SIGINT"       // a process of its own, while the n-th request waits: it never gets there
	kill      death = "SIGKILL"      // the same, and the registry acts on it afterwards
)

// at reports whether a command is ended at its n-th request in this way. The race detector, which takes several times as long, sees enough of
// a third of what happens in this process; where lists take their time to settle SIGINT and SIGKILL then take turns.
func (d death) at(n int, kind regtest.Kind) bool {
	switch {
	case !raced:
		return true
	case d == unheard, d == unseen:
		return n%3 == 0
	}
	return kind == regtest.WithAPI || (n%2 == 0) == (d == kill)
}

// A victim is a command that is going to be ended, with the registries that it talks to.
type victim struct {
	*person
	args    []string
	servers []*regtest.Server
	alive   func(when string) // what must hold at every moment
	done    func(when string) // what must hold once it ran to its end
	secrets []string
	end     func()
}

// An axe falls at the n-th request, counted over all registries.
type axe struct {
	n      int
	way    death
	fall   func()        // ends the client, and waits until it has ended
	landed chan struct{} // closed once the registry has done with that request

	mu      sync.Mutex
	seen    int
	fallen  bool
	session string          // of an upload, if that is what it fell on
	off     map[string]bool // the sessions that were called off since
}

// over makes the axe hang over the registries.
func (a *axe) over(servers []*regtest.Server) {
	a.off = map[string]bool{}
	for _, s := range servers {
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool { return a.swing(s, w, r) })
	}
}

func (a *axe) swing(s *regtest.Server, w http.ResponseWriter, r *http.Request) bool {
	a.mu.Lock()
	a.seen++
	falls, late := a.seen == a.n, a.fallen
	if falls {
		a.fallen, a.session = true, sessionOf(r)
	}
	if late && r.Method == http.MethodDelete {
		a.off[sessionOf(r)] = true
	}
	a.mu.Unlock()
	switch {
	case !falls && !late, late && a.way == interrupt: // who is interrupted may still say so
		s.Handler().ServeHTTP(w, r)
		return true
	case late:
		panic(http.ErrAbortHandler)
	}
	defer close(a.landed)
	switch a.way {
	case unseen:
		s.Handler().ServeHTTP(httptest.NewRecorder(), r)
		a.fall()
	case kill:
		a.fall()
		s.Handler().ServeHTTP(httptest.NewRecorder(), r)
	default:
		a.fall()
	}
	panic(http.ErrAbortHandler)
}

// sessionOf is the upload session that a request is made in, "" if in none.
func sessionOf(r *http.Request) string {
	_, at, _ := strings.Cut(r.URL.Path, "/blobs/uploads/")
	return at
}

// An end is how a victim ended.
type end struct {
	outcome
	struck bool          // the axe fell
	took   time.Duration // from then on
	// It fell on a request of an upload session; that was called off.
	session, off bool
}

// fell runs a victim to its n-th request. 0 lets it run to its end, and counts.
func (v victim) fell(t *testing.T, way death, n int) (end, int) {
	t.Helper()
	a := &axe{n: n, way: way, landed: make(chan struct{})}
	defer func() {
		for _, s := range v.servers {
			s.Intercept(nil)
		}
	}()
	if n == 0 || way == unheard || way == unseen {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		a.fall = cancel
		a.over(v.servers)
		o := v.runIn(ctx, v.args...)
		a.mu.Lock()
		e, seen := end{outcome: o, struck: a.fallen}, a.seen
		a.mu.Unlock()
		if e.struck {
			<-a.landed
		}
		return e, seen
	}
	program, err := exec.LookPath("imprint") // this test binary, by another name
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, v.args...)
	c.Env = append(slices.Clone(v.env), "GORACE="+quickExit)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	ended := make(chan struct{})
	began := make(chan struct{})
	var struck, over time.Time
	a.fall = func() {
		<-began
		signal := map[death]os.Signal{interrupt: os.Interrupt, kill: os.Kill}[way]
		struck = time.Now()
		_ = c.Process.Signal(signal)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = c.Process.Kill()
		}
	}
	a.over(v.servers)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	close(began)
	_ = c.Wait()
	over = time.Now()
	close(ended)
	a.mu.Lock()
	e := end{outcome: outcome{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}, struck: a.fallen}
	a.mu.Unlock()
	if e.struck {
		<-a.landed
		e.took = over.Sub(struck)
		e.session, e.off = a.session != "", a.off[a.session]
	}
	return e, 0
}

// endEach ends a command at each of its requests: at no moment does anything wrong hold, and the second run ends as one that nobody disturbed.
func endEach(t *testing.T, kind regtest.Kind, ways []death, prepare func(t *testing.T) victim) {
	v := prepare(t)
	first, total := v.fell(t, unheard, 0)
	if first.code != 0 {
		t.Fatalf("undisturbed: exit code %d\n%s", first.code, first.stderr)
	}
	v.done("undisturbed")
	v.end()
	for _, way := range ways {
		t.Run(string(way), func(t *testing.T) {
			t.Parallel()
			var struck, sessions atomic.Int64
			var mu sync.Mutex
			var slow []int
			one := func(n int, last bool) {
				v := prepare(t)
				defer v.end()
				e, _ := v.fell(t, way, n)
				when := fmt.Sprintf("request %d of %d %s, exit code %d", n, total, way, e.code)
				if e.struck {
					struck.Add(1)
				}
				switch {
				case !e.struck && e.code != 0 || e.struck && way == kill && e.code != -1 || e.struck && way == interrupt && e.code != 130:
					t.Errorf("%s\n%s%s", when, e.stdout, e.stderr)
				case e.struck && way == interrupt:
					if err := oneError("", withoutWarnings(e.stderr)); err != nil || !strings.Contains(e.stderr, "interrupted") {
						t.Errorf("%s: %v\n%s", when, err, e.stderr)
					}
				}
				if way == interrupt && e.session {
					sessions.Add(1)
					if !e.off {
						t.Errorf("%s: its upload session was not called off", when)
					}
				}
				if way == interrupt && e.took > 2*time.Second {
					if last {
						t.Errorf("%s: it took %s to end", when, e.took)
					}
					mu.Lock()
					slow = append(slow, n)
					mu.Unlock()
				}
				v.alive(when)
				again := v.run(t, v.args...)
				if again.code != 0 {
					t.Errorf("%s: the second run ends in %d: %s", when, again.code, again.stderr)
				}
				v.done(when)
				for _, secret := range v.secrets {
					if all := e.stdout + e.stderr + again.stdout + again.stderr; strings.Contains(all, secret) {
						t.Errorf("%s: a secret is shown: %s", when, all)
					}
				}
			}
			var runs sync.WaitGroup
			slots := make(chan struct{}, 6) // they wait for lists to settle more than for a processor
			tried := 0
			for n := 1; n <= total; n++ {
				if !way.at(n, kind) {
					continue
				}
				tried++
				slots <- struct{}{}
				runs.Go(func() {
					defer func() { <-slots }()
					one(n, false)
				})
			}
			runs.Wait()
			// A busy machine makes anything wait: who was slow once more, alone.
			for _, n := range slices.Clone(slow) {
				one(n, true)
			}
			// Requests travel beside one another, so that one run may need a few less than another.
			if n := int(struck.Load()); n < tried-tried/8-1 {
				t.Errorf("%d of %d runs were ended", n, tried)
			}
			t.Logf("ended at %d of %d requests, %d of them in upload sessions", struck.Load(), total, sessions.Load())
		})
	}
}

// password is what the doors to registries ask for.
const password = "correct-horse-battery"

// behindPassword serves whoever has it.
func behindPassword(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, given, ok := r.BasicAuth(); !ok || user != "somebody" || given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			failure(w, http.StatusUnauthorized, "UNAUTHORIZED")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// door is a way into a registry that asks for the password.
func door(t testing.TB, h http.Handler) *regtest.Server {
	t.Helper()
	return regtest.Serve(t, behindPassword(h))
}

// passwords gives a person the password of registries.
func (p *person) passwords(t testing.TB, servers ...*regtest.Server) {
	t.Helper()
	auths := map[string]any{}
	for _, s := range servers {
		auths[s.Host] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte("somebody:" + password))}
	}
	b, err := json.Marshal(map[string]any{"auths": auths})
	if err != nil {
		t.Fatal(err)
	}
	p.docker(t, string(b))
}

// stored is all that a registry answers about a repository: its tags with what they name, and what it has of the manifests, lists of referrers
// and blobs that known holds. Bytes are checked against their digests (I3).
func stored(t testing.TB, h http.Handler, repo string, known ...fixture.Contents) map[string]string {
	t.Helper()
	all := map[string]string{}
	get := func(path string) (status int, mediaType string, body []byte) {
		r := httptest.NewRequest(http.MethodGet, "/v2/"+repo+path, nil)
		r.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Header().Get("Content-Type"), w.Body.Bytes()
	}
	keep := func(path string) []byte {
		status, mediaType, body := get(path)
		if status != http.StatusOK {
			return nil
		}
		all[path] = mediaType + "\n" + string(body)
		return body
	}
	_, _, list := get("/tags/list")
	var tags struct{ Tags []string }
	_ = json.Unmarshal(list, &tags) // no repository, no tags
	for _, tag := range tags.Tags {
		keep("/manifests/" + tag)
	}
	bytesOf := func(path string, d digest.Digest) {
		if b := keep(path + string(d)); b != nil && digest.FromBytes(b) != d {
			t.Errorf("%s holds bytes of %s", path+string(d), digest.FromBytes(b))
		}
	}
	for _, c := range known {
		for d := range c.Blobs {
			bytesOf("/blobs/", d)
		}
		for d := range c.Manifests {
			bytesOf("/manifests/", d)
			status, _, b := get("/referrers/" + string(d))
			if status != http.StatusOK {
				continue
			}
			var x struct{ Manifests []json.RawMessage }
			if err := json.Unmarshal(b, &x); err != nil {
				t.Errorf("referrers of %s: %v", d, err)
			}
			var entries []string
			for _, m := range x.Manifests {
				entries = append(entries, string(m))
			}
			slices.Sort(entries)
			all["/referrers/"+string(d)] = strings.Join(entries, "\n")
		}
	}
	return all
}

// A calm is what a run left that nobody disturbed: the first one.
type calm struct {
	mu   sync.Mutex
	left map[string]string
}

// same wants what is there now to be that (I4); the first time it is kept, once whole has looked at it.
func (c *calm) same(t *testing.T, when string, now map[string]string, whole func()) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == nil {
		whole()
		c.left = now
	}
	if diff := cmp.Diff(c.left, now); diff != "" {
		t.Errorf("%s: it is not as an undisturbed run left it (-calm +now):\n%s", when, diff)
	}
}

// other is the kind of a source: both kinds are read from and written to.
func other(kind regtest.Kind) regtest.Kind {
	if kind == regtest.WithAPI {
		return regtest.WithoutAPI
	}
	return regtest.WithAPI
}

// firstCopies prepares copies of an image with two signatures into a registry that holds nothing.
func firstCopies(t *testing.T, kind regtest.Kind) func(t *testing.T) victim {
	t.Helper()
	source := regtest.New(t, other(kind))
	if _, err := fixture.Single(t.Context(), source.Host+"/team/app:v1", fixture.Options{Layer: 2000}); err != nil {
		t.Fatal(err)
	}
	want, err := fixture.Walk(t.Context(), source.Host+"/team/app:v1")
	if err != nil || want.Referrers() != 2 {
		t.Fatalf("%d referrers, %v", want.Referrers(), err)
	}
	undisturbed := &calm{}
	return func(t *testing.T) victim {
		p, from, behind := newPerson(t), door(t, source.Handler()), regtest.Start(kind)
		to := door(t, behind.Handler())
		p.passwords(t, from, to)
		whole := func(when string, now map[string]string) {
			t.Helper()
			undisturbed.same(t, when, now, func() {
				got, err := fixture.Walk(t.Context(), behind.Host+"/prod/app:v1")
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("%s: %v\n%s", when, err, diff)
				}
			})
		}
		return victim{
			person: p, args: []string{"copy", from.Host + "/team/app:v1", to.Host + "/prod/app"}, servers: []*regtest.Server{from, to},
			alive: func(when string) { // I1: once the tag is there, everything is
				if now := stored(t, behind.Handler(), "prod/app", want); now["/manifests/v1"] != "" {
					whole(when, now)
				}
			},
			done:    func(when string) { whole(when, stored(t, behind.Handler(), "prod/app", want)) },
			secrets: []string{password, base64.StdEncoding.EncodeToString([]byte("somebody:" + password))},
			end: func() {
				for _, s := range []*regtest.Server{from, to, behind} {
					s.Close()
				}
			},
		}
	}
}

// TestNeverHalfCopied: `single`, into a registry that holds nothing.
func TestNeverHalfCopied(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run("F38 F39 "+string(kind), func(t *testing.T) {
			t.Parallel()
			endEach(t, kind, []death{unheard, unseen, interrupt, kill}, firstCopies(t, kind))
		})
	}
}

// TestNeverHalfMoved: the destination's tag names the release before, which is signed, and the new one is there already with the first of its
// two signatures. At no moment has either of them no signature that verifies, and the tag names the one or the other, whole.
func TestNeverHalfMoved(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run("F38 F39 "+string(kind), func(t *testing.T) {
			t.Parallel()
			source, first := regtest.New(t, other(kind)), regtest.New(t, kind)
			l := newLineage(3, "P-256")
			older, newer := image("older"), image("newer")
			p := newPerson(t)
			for _, a := range []struct {
				artifact
				tag string
			}{{older, "old"}, {newer, "v1"}} {
				ref := pushed(t, a.artifact, source.Host+"/team/app", a.tag)
				if err := judge.Sign(t.Context(), ref, l.key, l.old, judge.SignOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			p.want(t, 0, "", "copy", source.Host+"/team/app:v1", first.Host+"/team/app") // with one signature
			if err := judge.Sign(t.Context(), source.Host+"/team/app:v1", l.key, l.old, judge.SignOptions{Format: "cose"}); err != nil {
				t.Fatal(err)
			}
			var wants []fixture.Contents
			for i, tag := range []string{"old", "v1"} {
				c, err := fixture.Walk(t.Context(), source.Host+"/team/app:"+tag)
				if err != nil || c.Referrers() != i+1 {
					t.Fatalf("%d signatures of %s, %v", c.Referrers(), tag, err)
				}
				wants = append(wants, c)
			}
			undisturbed := &calm{}
			endEach(t, kind, []death{unheard, kill}, func(t *testing.T) victim {
				from, to := regtest.Serve(t, source.Handler()), regtest.Start(kind)
				front := regtest.Serve(t, to.Handler())
				for src, tag := range map[string]string{source.Host + "/team/app:old": "v1", first.Host + "/team/app:v1": "partial"} {
					if o := p.run(t, "copy", src, to.Host+"/prod/app:"+tag, "-q"); o.code != 0 {
						t.Fatal(o.stderr)
					}
				}
				check := func(when string) (moved bool, now map[string]string) {
					t.Helper()
					now = stored(t, to.Handler(), "prod/app", wants...)
					for _, c := range wants {
						if err := judge.Verify(t.Context(), to.Host+"/prod/app@"+string(c.Root), l.roots...); err != nil {
							t.Errorf("%s: %v", when, err)
						}
					}
					got, err := fixture.WalkManifests(t.Context(), to.Host+"/prod/app:v1")
					if moved = got.Root == wants[1].Root; err == nil && !moved {
						if diff := cmp.Diff(wants[0], got); diff != "" {
							t.Errorf("%s: the tag names neither whole\n%s", when, diff)
						}
					}
					if err != nil {
						t.Errorf("%s: %v", when, err)
					}
					return moved, now
				}
				whole := func(when string, now map[string]string) {
					undisturbed.same(t, when, now, func() {
						got, err := fixture.Walk(t.Context(), to.Host+"/prod/app:v1")
						if diff := cmp.Diff(wants[1], got); err != nil || diff != "" {
							t.Errorf("%s: %v\n%s", when, err, diff)
						}
					})
				}
				return victim{
					person: p, args: []string{"copy", from.Host + "/team/app:v1", front.Host + "/prod/app", "--move", "v1"}, servers: []*regtest.Server{from, front},
					alive: func(when string) {
						if moved, now := check(when); moved {
							whole(when, now)
						}
					},
					done: func(when string) {
						_, now := check(when)
						whole(when, now)
					},
					end: func() {
						for _, s := range []*regtest.Server{from, to, front} {
							s.Close()
						}
					},
				}
			})
		})
	}
}

// TestNeverHalfPublished: processes of their own, as TestPublishKilled does it within this one.
func TestNeverHalfPublished(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run("F38 F39 "+string(kind), func(t *testing.T) {
			t.Parallel()
			p := newPublisher(t)
			a := image("newer")
			from := p.build(t, "built", a)
			planned, args := p.prepare(t, regtest.New(t, kind).Host+"/app", from, a)
			endEach(t, kind, []death{interrupt, kill}, func(t *testing.T) victim {
				behind := regtest.Start(kind)
				to := door(t, behind.Handler())
				mine := newPerson(t)
				mine.passwords(t, to)
				r := planned
				r.repo = behind.Host + "/app"
				pushed(t, image("older"), r.repo, "latest")
				its := slices.Clone(args)
				its[2] = to.Host + "/app"
				return victim{
					person: mine, args: its, servers: []*regtest.Server{to},
					alive:   func(when string) { r.check(t, when) },
					done:    func(when string) { r.done(t, when) },
					secrets: []string{password, "PRIVATE KEY"},
					end:     func() { to.Close(); behind.Close() },
				}
			})
		})
	}
}

// TestSecondInterrupt: who interrupts twice does not wait for what is being called off, nor hear of it.
func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("imprint") // this test binary, by another name
	if err != nil {
		t.Fatal(err)
	}
	v := firstCopies(t, regtest.WithoutAPI)(t)
	defer v.end()
	c := exec.Command(program, v.args...)
	c.Env = append(slices.Clone(v.env), "GORACE="+quickExit)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	began, ended := make(chan struct{}), make(chan struct{})
	var first, second sync.Once
	v.servers[1].Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		<-began
		upload := strings.Contains(r.URL.Path, "/blobs/uploads/")
		switch {
		case upload && r.Method == http.MethodPut:
			first.Do(func() { _ = c.Process.Signal(os.Interrupt) })
		case upload && r.Method == http.MethodDelete:
			second.Do(func() { _ = c.Process.Signal(os.Interrupt) })
		default:
			return false
		}
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Error("it does not end")
			_ = c.Process.Kill()
		}
		panic(http.ErrAbortHandler)
	})
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	close(began)
	_ = c.Wait()
	close(ended)
	called := v.servers[1].Count(func(r regtest.Request) bool { return r.Method == http.MethodDelete })
	if code := c.ProcessState.ExitCode(); code != 130 || stderr.Len() > 0 || called == 0 {
		t.Errorf("exit code %d, %d sessions called off: %s", code, called, stderr.String())
	}
	v.alive("interrupted twice")
}

// TestTerminated: SIGTERM, which orchestrators send, ends as SIGINT does, in 143.
func TestTerminated(t *testing.T) {
	t.Parallel()
	v := firstCopies(t, regtest.WithAPI)(t)
	defer v.end()
	program, err := exec.LookPath("imprint") // this test binary, by another name
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, append(slices.Clone(v.args), "-o", "json")...)
	c.Env = append(slices.Clone(v.env), "GORACE="+quickExit)
	var stdout bytes.Buffer
	c.Stdout = &stdout
	began, ended := make(chan struct{}), make(chan struct{})
	var once sync.Once
	v.servers[1].Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		<-began
		once.Do(func() { _ = c.Process.Signal(syscall.SIGTERM) })
		<-ended
		panic(http.ErrAbortHandler)
	})
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	close(began)
	_ = c.Wait()
	close(ended)
	o := outcome{code: c.ProcessState.ExitCode(), stdout: stdout.String()}
	if o.code != 143 || o.field(t, "reason") != "interrupted" || o.field(t, "exitCode") != "143" {
		t.Errorf("exit code %d: %s", o.code, o.stdout)
	}
	v.servers[1].Intercept(nil)
	v.alive("terminated")
	if o := v.run(t, v.args...); o.code != 0 {
		t.Errorf("the second run ends in %d: %s", o.code, o.stderr)
	}
	v.done("terminated")
}

// TestNothingLeaks (I6): runs that were cut off leave neither goroutines nor open files behind. It runs alone.
func TestNothingLeaks(t *testing.T) {
	for _, kind := range regtest.Kinds {
		prepare := firstCopies(t, kind)
		v := prepare(t)
		_, total := v.fell(t, unheard, 0)
		v.end()
		before, files := len(goroutines()), openFiles(t)
		for n := 1; n <= total; n += 7 {
			v := prepare(t)
			v.fell(t, []death{unheard, unseen}[n%2], n)
			v.end()
		}
		// What a closed connection leaves takes a moment to go.
		for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			now, nowFiles := goroutines(), openFiles(t)
			if len(now) <= before && nowFiles <= files {
				break
			}
			if time.Now().After(until) {
				t.Fatalf("%s: %d goroutines, %d before; %d files, %d before\n%s", kind, len(now), before, nowFiles, files, strings.Join(now, "\n\n"))
			}
		}
	}
}

// goroutines are the stacks of all goroutines but those that each registry of CNCF distribution begins and never ends.
func goroutines() []string {
	b := make([]byte, 4<<20)
	return slices.DeleteFunc(strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n"), func(stack string) bool {
		return strings.Contains(stack, "docker/go-events") || strings.Contains(stack, "distribution/distribution")
	})
}

// openFiles counts this process's descriptors.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
