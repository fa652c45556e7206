package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A plain is a registry that holds as many tagged images of one repository as a test wants, and nothing else. Repositories
// are app and what begins with it.
type plain struct {
	images int
	// answer, if not nil, answers before it.
	answer func(w http.ResponseWriter, r *http.Request) bool
}

func (p plain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.answer != nil && p.answer(w, r) {
		return
	}
	path := strings.Split(r.URL.Path, "/") // "", v2, app, …
	if len(path) < 5 || !strings.HasPrefix(path[2], "app") {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"errors":[{"code":"NAME_UNKNOWN"}]}`)
		return
	}
	switch path[3] {
	case "tags":
		var tags []string
		for i := range p.images {
			tags = append(tags, fmt.Sprint("v", i))
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"tags": tags})
	case "manifests":
		tag := path[4]
		for i := range p.images {
			if string(plainDigest(i)) == tag {
				tag = fmt.Sprint("v", i)
				break
			}
		}
		if strings.HasPrefix(tag, "sha256-") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = io.WriteString(w, plainImage(tag))
	case "referrers":
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		_, _ = io.WriteString(w, `{"schemaVersion":2,"manifests":[]}`)
	}
}

func plainImage(tag string) string {
	return `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json",` +
		`"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],"annotations":{"tag":"` + tag + `"}}`
}

func plainDigest(i int) digest.Digest { return digest.FromString(plainImage(fmt.Sprint("v", i))) }

type signed struct {
	Reference string `json:"reference"`
	Word      string `json:"word"`
}

// runPlain runs --all with something that is done at each visit.
func runPlain(ctx context.Context, t *testing.T, flags batchFlags, args []string, asJSON bool, edit func(*batch[signed], *allOptions),
	do func(ctx context.Context, repo *registry.Repo, v registry.Visit) ([]signed, error)) told {
	t.Helper()
	var out, talk strings.Builder
	w := newWorld(t)
	w.env.Out, w.env.Err = &out, &talk
	s := newSession(w.env)
	s.json = asJSON
	s.command = &cobra.Command{Use: "test"}
	if flags.jobs == 0 {
		flags.jobs = 16
	}
	items, err := flags.allItems(s, args, "REPO…")
	if err == nil {
		b := batch[signed]{
			kind: "test",
			line: func(w io.Writer, v signed) { fmt.Fprintln(w, v.Word, v.Reference) },
			word: func(v signed) string { return v.Word },
			skipped: func(v signed) error {
				if v.Word == "skipped" {
					return errors.New("nothing fits")
				}
				return nil
			},
		}
		var o allOptions
		if edit != nil {
			edit(&b, &o)
		}
		err = runAll(ctx, s, flags, items, b, o, do)
	}
	var i interruption
	if err != nil && errors.As(context.Cause(ctx), &i) {
		err = &interrupted{i.signal, err}
	}
	return told{s.end(err), out.String(), talk.String()}
}

func name(repo *registry.Repo, v registry.Visit) string {
	return repo.Reference().With("", v.Subject.Digest).String()
}

// once says each artifact once.
func once(_ context.Context, repo *registry.Repo, v registry.Visit) ([]signed, error) {
	return []signed{{name(repo, v), "done"}}, nil
}

type allSummary struct {
	Kind                                             string
	Items, Done, Rejected, Failed, Skipped, ExitCode int
	NotRun                                           int
	Statuses                                         map[string]int
	NotSeen, Shard                                   string
}

// linesOf reads JSON lines: those that name an item or a reference by it, and the summary, which is the last.
func linesOf(t *testing.T, out string) (failed, done []string, last allSummary) {
	t.Helper()
	all := lines(out)
	for i, l := range all {
		var line struct {
			Kind      string
			Item      []string
			Reference string
		}
		if err := json.Unmarshal([]byte(l), &line); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		switch {
		case line.Kind == "error":
			failed = append(failed, strings.Join(line.Item, " "))
		case line.Kind == "summary":
			if i != len(all)-1 {
				t.Errorf("the summary is line %d of %d", i+1, len(all))
			}
			if err := json.Unmarshal([]byte(l), &last); err != nil {
				t.Fatal(err)
			}
		default:
			done = append(done, line.Reference)
		}
	}
	if last.Kind != "summary" {
		t.Fatalf("no summary in %s", out)
	}
	return failed, done, last
}

// TestK21AllButThree: of 10,000 signatures three fail: the others are done, and the lines of failures are a batch.
func TestK21AllButThree(t *testing.T) {
	t.Parallel()
	const images, each = 400, 25
	s := regtest.Serve(t, plain{images: images})
	bad := map[digest.Digest]bool{plainDigest(7): true, plainDigest(200): true, plainDigest(399): true}
	got := runPlain(context.Background(), t, batchFlags{jobs: 32}, []string{s.Host + "/app"}, true, nil,
		func(_ context.Context, repo *registry.Repo, v registry.Visit) ([]signed, error) {
			var out []signed
			for i := range each {
				if i == each-1 && bad[v.Subject.Digest] {
					return out, fmt.Errorf("writing: %w", registry.ErrUnavailable)
				}
				out = append(out, signed{fmt.Sprintf("%s#%d", name(repo, v), i), "done"})
			}
			return out, nil
		})
	if got.code != exitPartly {
		t.Errorf("exit %d, want %d\n%s", got.code, exitPartly, got.err)
	}
	failed, done, last := linesOf(t, got.out)
	var want []string
	for d := range bad {
		want = append(want, s.Host+"/app@"+string(d))
	}
	slices.Sort(want)
	slices.Sort(failed)
	if diff := cmp.Diff(want, failed); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	slices.Sort(done)
	if n := len(slices.Compact(done)); n != images*each-3 {
		t.Errorf("%d done, want %d", n, images*each-3)
	}
	if last.Items != images*each || last.Done != images*each-3 || last.Failed != 3 || last.NotRun != 0 || last.ExitCode != exitPartly ||
		last.NotSeen != notSeen || last.Statuses["done"] != images*each-3 {
		t.Errorf("summary %+v", last)
	}

	// The failures are a batch, which does just them.
	again := batchFlags{file: newWorld(t).file("failures.jsonl", got.out), jobs: 4}
	var did []string
	var mu sync.Mutex
	var errorsOnly []string
	for _, l := range lines(got.out) {
		if strings.Contains(l, `"kind":"error"`) {
			errorsOnly = append(errorsOnly, l)
		}
	}
	again.file = newWorld(t).file("failures.jsonl", strings.Join(errorsOnly, "\n"))
	got = runPlain(context.Background(), t, again, nil, true, nil, func(_ context.Context, repo *registry.Repo, v registry.Visit) ([]signed, error) {
		mu.Lock()
		defer mu.Unlock()
		did = append(did, name(repo, v))
		return nil, nil
	})
	slices.Sort(did)
	if diff := cmp.Diff(want, did); got.code != exitDone || diff != "" {
		t.Errorf("exit %d, done again (-want +got):\n%s", got.code, diff)
	}
}

// TestAllExitCodes are those of a batch.
func TestAllExitCodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   []string // what becomes of the images
		code int
		sum  allSummary
	}{
		{"all done", []string{"done", "done"}, 0, allSummary{Items: 2, Done: 2}},
		{"nothing to do", []string{"", ""}, 0, allSummary{}},
		{"a verdict", []string{"done", "rejected"}, 1, allSummary{Items: 2, Done: 1, Rejected: 1}},
		{"a failure", []string{"done", "down"}, 7, allSummary{Items: 2, Done: 1, Failed: 1}},
		{"only failures", []string{"down", "down"}, 4, allSummary{Items: 2, Failed: 2}},
		{"done and failed at once", []string{"both", ""}, 7, allSummary{Items: 2, Done: 1, Failed: 1}},
		{"skipped beside done", []string{"skipped", "done"}, 0, allSummary{Items: 2, Done: 1, Skipped: 1}},
		{"only skipped", []string{"skipped", "skipped"}, 4, allSummary{Items: 2, Skipped: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := regtest.Serve(t, plain{images: len(tt.do)})
			words := map[digest.Digest]string{}
			for i, w := range tt.do {
				words[plainDigest(i)] = w
			}
			got := runPlain(context.Background(), t, batchFlags{}, []string{s.Host + "/app"}, true, nil, func(_ context.Context, repo *registry.Repo, v registry.Visit) ([]signed, error) {
				is := []signed{{name(repo, v), words[v.Subject.Digest]}}
				switch is[0].Word {
				case "":
					return nil, nil
				case "down":
					return nil, registry.ErrUnavailable
				case "both":
					return is, registry.ErrUnavailable
				case "rejected":
					return nil, registry.ErrTagMoves
				}
				return is, nil
			})
			if got.code != tt.code {
				t.Errorf("exit %d, want %d\n%s\n%s", got.code, tt.code, got.out, got.err)
			}
			_, _, last := linesOf(t, got.out)
			last.Kind, last.Statuses, last.NotSeen = "", nil, ""
			tt.sum.ExitCode = tt.code
			if diff := cmp.Diff(tt.sum, last); diff != "" {
				t.Errorf("summary (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAllWhatFails: what is wrong with an item, a repository or an artifact is a line that names it, and the others are done.
func TestAllWhatFails(t *testing.T) {
	t.Parallel()
	down := plainDigest(1)
	s := regtest.Serve(t, plain{images: 3, answer: func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/app/referrers/"+string(down)) || strings.HasSuffix(r.URL.Path, "/app/manifests/v2") {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	}})
	got := runPlain(context.Background(), t, batchFlags{}, []string{s.Host + "/app", "nohost", s.Host + "/none", "oci-archive:x.tar", s.Host + "/app2@" + string(plainDigest(9))}, true, nil, once)
	failed, done, last := linesOf(t, got.out)
	want := []string{"nohost", "oci-archive:x.tar", s.Host + "/none", s.Host + "/app@" + string(down), s.Host + "/app:v2", s.Host + "/app2@" + string(plainDigest(9))}
	// The last: bytes that do not have the digest.
	slices.Sort(want)
	slices.Sort(failed)
	if diff := cmp.Diff(want, failed); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{s.Host + "/app@" + string(plainDigest(0))}, done); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
	if got.code != exitPartly || last.Failed != len(want) {
		t.Errorf("exit %d, summary %+v", got.code, last)
	}
}

// TestAllShards: each artifact is of one share, the same one however it is found.
func TestAllShards(t *testing.T) {
	t.Parallel()
	const images, of = 60, 4
	s := regtest.Serve(t, plain{images: images})
	who := map[string]int{}
	for i := range of {
		got := runPlain(context.Background(), t, batchFlags{shard: shard{i, of}, file: newWorld(t).file("list", s.Host+"/app\n")}, nil, true, nil, once)
		_, done, last := linesOf(t, got.out)
		if got.code != exitDone || last.Items != len(done) || last.Shard != fmt.Sprintf("%d/%d", i, of) {
			t.Errorf("exit %d, summary %+v", got.code, last)
		}
		for _, d := range done {
			if other, twice := who[d]; twice {
				t.Errorf("%s is of %d and %d", d, other, i)
			}
			who[d] = i
			if !(shard{i, of}).has(item{d}) {
				t.Errorf("%s is not of shard %d by its name", d, i)
			}
		}
	}
	if len(who) != images || len(slices.Compact(slices.Sorted(maps.Values(who)))) != of {
		t.Errorf("%d artifacts done by %v", len(who), who)
	}
}

// TestAllFailFast: nothing begins after the first failure.
func TestAllFailFast(t *testing.T) {
	t.Parallel()
	s := regtest.Serve(t, plain{images: 50})
	var did atomic.Int32
	got := runPlain(context.Background(), t, batchFlags{jobs: 1, failFast: true}, []string{s.Host + "/app"}, true, nil,
		func(_ context.Context, repo *registry.Repo, v registry.Visit) ([]signed, error) {
			if did.Add(1) == 2 {
				return nil, registry.ErrUnavailable
			}
			return []signed{{name(repo, v), "done"}}, nil
		})
	failed, done, last := linesOf(t, got.out)
	if got.code != exitPartly || did.Load() != 2 || len(failed) != 1 || len(done) != 1 || last.Items != 2 {
		t.Errorf("exit %d after %d, summary %+v\n%s", got.code, did.Load(), last, got.err)
	}
}

// TestAllEnough: --limit ends the run, and is no failure.
func TestAllEnough(t *testing.T) {
	t.Parallel()
	s := regtest.Serve(t, plain{images: 50})
	var did atomic.Int32
	got := runPlain(context.Background(), t, batchFlags{jobs: 1}, []string{s.Host + "/app", s.Host + "/app2"}, true, nil,
		func(_ context.Context, repo *registry.Repo, v registry.Visit) ([]signed, error) {
			if did.Add(1) == 3 {
				return []signed{{name(repo, v), "done"}}, errEnough
			}
			return []signed{{name(repo, v), "done"}}, nil
		})
	failed, done, last := linesOf(t, got.out)
	if got.code != exitDone || did.Load() != 3 || len(failed) != 0 || len(done) != 3 || last.Done != 3 {
		t.Errorf("exit %d after %d, summary %+v\n%s", got.code, did.Load(), last, got.err)
	}
}

// TestAllInterrupted: a signal ends it soon; what was under way is a line, the exit code the signal's.
func TestAllInterrupted(t *testing.T) {
	t.Parallel()
	s := regtest.Serve(t, plain{images: 100})
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	start := time.Now()
	var did atomic.Int32
	got := runPlain(ctx, t, batchFlags{jobs: 4}, []string{s.Host + "/app"}, true, nil,
		func(ctx context.Context, repo *registry.Repo, v registry.Visit) ([]signed, error) {
			if did.Add(1) < 4 {
				return []signed{{name(repo, v), "done"}}, nil
			}
			start = time.Now()
			cancel(interruption{syscall.SIGINT})
			<-ctx.Done()
			return nil, fmt.Errorf("writing: %w", context.Canceled)
		})
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	failed, done, last := linesOf(t, got.out)
	if got.code != exitSignal+int(syscall.SIGINT) || last.ExitCode != got.code || len(done) < 3 || len(failed) == 0 || !strings.Contains(failed[0], "/app@sha256:") {
		t.Errorf("exit %d, failed %q, done %d, summary %+v\n%s", got.code, failed, len(done), last, got.err)
	}
}

// TestAllOnce: a repository that is named in several ways is walked once, and its artifacts done once.
func TestAllOnce(t *testing.T) {
	t.Parallel()
	s := regtest.Serve(t, plain{images: 5})
	got := runPlain(context.Background(), t, batchFlags{}, []string{s.Host + "/app:v1", s.Host + "/app", s.Host + "/app", s.Host + "/app@" + string(plainDigest(1))}, true, nil, once)
	_, done, _ := linesOf(t, got.out)
	if got.code != exitDone || len(done) != 5 {
		t.Errorf("exit %d, done %q\n%s", got.code, done, got.err)
	}
	if n := s.Count(func(r regtest.Request) bool { return strings.HasSuffix(r.Path, "/tags/list") }); n != 1 {
		t.Errorf("the tags were listed %d times", n)
	}
}

// TestAllJobs: so many visits at once, of all repositories together, and no more.
func TestAllJobs(t *testing.T) {
	t.Parallel()
	const jobs = 3
	s := regtest.Serve(t, plain{images: 6})
	var mu sync.Mutex
	now, most := 0, 0
	full := make(chan struct{})
	got := runPlain(context.Background(), t, batchFlags{jobs: jobs}, []string{s.Host + "/app", s.Host + "/app2", s.Host + "/app3"}, true, nil,
		func(_ context.Context, repo *registry.Repo, v registry.Visit) ([]signed, error) {
			mu.Lock()
			now++
			if most = max(most, now); now == jobs {
				select {
				case <-full:
				default:
					close(full)
				}
			}
			mu.Unlock()
			<-full
			mu.Lock()
			now--
			mu.Unlock()
			return nil, nil
		})
	if got.code != exitDone || most != jobs {
		t.Errorf("exit %d, %d at once", got.code, most)
	}
}

// TestAllSaysWhatItCannotSee: of a registry, once; a layout lists all it has.
func TestAllSaysWhatItCannotSee(t *testing.T) {
	t.Parallel()
	s := regtest.Serve(t, plain{images: 2, answer: func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/tags/list") { // and one that is left of an artifact that was deleted
			_, _ = io.WriteString(w, `{"tags":["v0","sha256-`+strings.Repeat("ab", 32)+`"]}`)
			return true
		}
		if strings.HasSuffix(r.URL.Path, "/manifests/sha256-"+strings.Repeat("ab", 32)) {
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			_, _ = io.WriteString(w, `{"schemaVersion":2,"manifests":[]}`)
			return true
		}
		if strings.HasSuffix(r.URL.Path, "/manifests/sha256:"+strings.Repeat("ab", 32)) {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	}})
	got := runPlain(context.Background(), t, batchFlags{}, []string{s.Host + "/app"}, false, nil, once)
	if got.code != exitDone || strings.Count(got.out, notSeen) != 1 || !strings.Contains(got.err, "1 artifact that something still refers to is not there") {
		t.Errorf("exit %d\n%s\n%s", got.code, got.out, got.err)
	}
	w := newWorld(t)
	w.image("layout", "x", "v1")
	got = runPlain(context.Background(), t, batchFlags{}, []string{"oci:" + w.path("layout")}, false, nil, once)
	if got.code != exitDone || strings.Contains(got.out, "not seen") || !strings.Contains(got.out, "done oci:") {
		t.Errorf("exit %d\n%s\n%s", got.code, got.out, got.err)
	}
}

// TestAllWhole: a plan of the whole is shown at the end, of what was kept.
func TestAllWhole(t *testing.T) {
	t.Parallel()
	s := regtest.Serve(t, plain{images: 4})
	var shown []signed
	var failures int
	var named sync.Map
	got := runPlain(context.Background(), t, batchFlags{}, []string{s.Host + "/app"}, false, func(b *batch[signed], o *allOptions) {
		b.kept = func(v signed) signed { v.Reference = ""; return v }
		b.whole = func(w io.Writer, all []signed, failed []ui.Failure) {
			shown, failures = all, len(failed)
			fmt.Fprintln(w, "the plan")
		}
		o.named = func(repo *registry.Repo, tag string, d digest.Digest) { named.Store(tag, d) }
		o.toldUnseen = true
	}, func(_ context.Context, repo *registry.Repo, v registry.Visit) ([]signed, error) {
		if v.Subject.Digest == plainDigest(2) {
			return nil, registry.ErrUnavailable
		}
		return []signed{{name(repo, v), "planned"}}, nil
	})
	if got.code != exitPartly || len(shown) != 3 || shown[0].Reference != "" || failures != 1 || strings.TrimSpace(got.out) != "the plan" {
		t.Errorf("exit %d, shown %v, %d failures\n%s", got.code, shown, failures, got.out)
	}
	if d, _ := named.Load("v3"); d != plainDigest(3) {
		t.Errorf("v3 is %v", d)
	}
}

// TestAllNamesWhatFailed: also an item of --all that is no place to walk is named in its error.
func TestAllNamesWhatFailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	for _, item := range []string{"oci-archive:" + w.path("a.tar"), "oci:" + w.path("nowhere"), "reg.example/team/"} {
		got := w.run("rechain", "--all", item, "--chain", w.path("chain.pem"))
		if want := "imprint: error: rechain " + item + ": "; got.code == 0 || !strings.HasPrefix(got.err, want) {
			t.Errorf("exit %d, want %q in %s", got.code, want, got.err)
		}
	}
}
