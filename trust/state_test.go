package trust

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

var rootsOfState = []string{strings.Repeat("a", 64)}

func take(t *testing.T, file string, version uint64, content string) error {
	t.Helper()
	return remember(t.Context(), file, rootsOfState, "docker.io", version, digest.FromString(content))
}

func wantState(t *testing.T, err error, code string, down bool) {
	t.Helper()
	var e *stateError
	switch {
	case code == "" && err != nil:
		t.Errorf("got %v", err)
	case code == "":
	case !errors.As(err, &e) || e.code != code || e.down != down:
		t.Errorf("got %v, want %s (down %v)", err, code, down)
	}
}

func TestD8State(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a", "b", "delegations.json")
	wantState(t, take(t, file, 3, "three"), "", false)
	wantState(t, take(t, file, 3, "three"), "", false)
	wantState(t, take(t, file, 3, "another three"), codeDelegationEquivocation, false)
	wantState(t, take(t, file, 2, "two"), codeDelegationRollback, false)
	wantState(t, take(t, file, 5, "five"), "", false)
	wantState(t, take(t, file, 4, "four"), codeDelegationRollback, false)
	wantState(t, take(t, file, 1<<64-1, "last"), "", false)
	wantState(t, take(t, file, 1<<64-2, "before"), codeDelegationRollback, false)
	// Another scope and another root begin for themselves; a root that shares a certificate remembers.
	ctx := t.Context()
	wantState(t, remember(ctx, file, rootsOfState, "docker.io/x", 1, digest.FromString("x")), "", false)
	wantState(t, remember(ctx, file, []string{strings.Repeat("b", 64)}, "docker.io", 1, digest.FromString("b")), "", false)
	wantState(t, remember(ctx, file, []string{strings.Repeat("c", 64), rootsOfState[0]}, "docker.io", 1, digest.FromString("c")), codeDelegationRollback, false)
	wantState(t, remember(ctx, file, []string{strings.Repeat("c", 64), strings.Repeat("b", 64)}, "docker.io", 2, digest.FromString("d")), "", false)
	wantState(t, remember(ctx, file, []string{strings.Repeat("c", 64)}, "docker.io", 1, digest.FromString("c")), codeDelegationRollback, false)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %v", err, info.Mode())
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*.new")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What cannot be understood is never begun anew, and nothing is written over it.
func TestD8CorruptState(t *testing.T) {
	t.Parallel()
	good := func(rest string) string {
		return fmt.Sprintf(`{"version":1,"documents":[{"root":"%s","scope":"docker.io","version":3,"digest":"%s"}%s]}`, rootsOfState[0], digest.FromString("three"), rest)
	}
	entry := strings.TrimSuffix(strings.SplitN(good(""), "[", 2)[1], "]}")
	for name, content := range map[string]string{
		"empty":                "",
		"half":                 good("")[:40],
		"trailing":             good("") + good(""),
		"another version":      strings.Replace(good(""), `"version":1`, `"version":2`, 1),
		"no version":           strings.Replace(good(""), `"version":1,`, ``, 1),
		"an unknown member":    strings.Replace(good(""), `"version":1`, `"version":1,"x":1`, 1),
		"a member twice":       strings.Replace(good(""), `"version":3`, `"version":3,"version":1`, 1),
		"the same entry twice": good("," + entry),
		"no root":              strings.Replace(good(""), rootsOfState[0], "root", 1),
		"no digest":            strings.Replace(good(""), string(digest.FromString("three")), "sha256:1", 1),
		"no scope":             strings.Replace(good(""), `"docker.io"`, `"docker.io/"`, 1),
		"version 0":            strings.Replace(good(""), `"version":3`, `"version":0`, 1),
		"version 2^64":         strings.Replace(good(""), `"version":3`, `"version":18446744073709551616`, 1),
		"null":                 "null",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "delegations.json")
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				wantState(t, take(t, file, 9, "nine"), codeDelegationState, false)
			}
			if b, err := os.ReadFile(file); err != nil || string(b) != content {
				t.Errorf("it was written over: %q, %v", b, err)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "delegations.json")
	if err := os.WriteFile(file, []byte(good("")), 0o600); err != nil {
		t.Fatal(err)
	}
	wantState(t, take(t, file, 3, "three"), "", false)
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	wantState(t, take(t, file, 3, "three"), codeDelegationState, false)
	dir := filepath.Join(t.TempDir(), "delegations.json")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	wantState(t, take(t, dir, 3, "three"), codeDelegationState, false)
}

// A run that was killed leaves a temporary file, perhaps half of one: the next takes it for what it is.
func TestD8KilledHalfway(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "delegations.json")
	wantState(t, take(t, file, 3, "three"), "", false)
	if err := os.WriteFile(file+".new", []byte(`{"version":1,"docum`), 0o600); err != nil {
		t.Fatal(err)
	}
	wantState(t, take(t, file, 2, "two"), codeDelegationRollback, false)
	wantState(t, take(t, file, 4, "four"), "", false)
	wantState(t, take(t, file, 3, "three"), codeDelegationRollback, false)
	if _, err := os.Lstat(file + ".new"); err == nil {
		t.Error("the half of a file is still there")
	}
}

// What cannot be taken down is not believed; what is known already needs no writing.
func TestD8ReadOnlyState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "delegations.json")
	wantState(t, take(t, file, 3, "three"), "", false)
	// A folder in the place of the temporary file stops everybody, root too.
	if err := os.MkdirAll(filepath.Join(file+".new", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	wantState(t, take(t, file, 3, "three"), "", false)
	wantState(t, take(t, file, 2, "two"), codeDelegationRollback, false)
	wantState(t, take(t, file, 4, "four"), codeDelegationState, true)
	if err := os.RemoveAll(file + ".new"); err != nil {
		t.Fatal(err)
	}
	wantState(t, take(t, file, 3, "three"), "", false)
	// So does a file in the place of the folder.
	wantState(t, take(t, filepath.Join(file, "delegations.json"), 3, "three"), codeDelegationState, true)
}

// Two at once: whoever comes second weighs what the first took down.
func TestD8TwoAtOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "delegations.json")
	var wait sync.WaitGroup
	var mu sync.Mutex
	accepted := map[string]int{}
	for i := range 40 {
		content := fmt.Sprintf("seven, told %d", i%2)
		wait.Go(func() {
			if take(t, file, 7, content) == nil {
				mu.Lock()
				accepted[content]++
				mu.Unlock()
			}
		})
	}
	for i := range 20 {
		wait.Go(func() {
			_ = remember(t.Context(), file, rootsOfState, fmt.Sprintf("docker.io/x%d", i), 1, digest.FromString("x"))
		})
	}
	wait.Wait()
	if len(accepted) != 1 {
		t.Errorf("of two documents of one version: %v", accepted)
	}
	known, err := readState(file)
	if err != nil || len(known) != 21 {
		t.Errorf("%d entries: %v", len(known), err)
	}
}

// TestD8Processes runs itself as several processes that raise the version; the highest stays.
func TestD8Processes(t *testing.T) {
	t.Parallel()
	const variable = "IMPRINT_TEST_STATE"
	if v := os.Getenv(variable); v != "" {
		file, from, _ := strings.Cut(v, "|")
		var n uint64
		fmt.Sscan(from, &n)
		for i := range uint64(20) {
			if err := take(t, file, n+i*4, "same"); err != nil && reasonOfState(err) != codeDelegationRollback {
				t.Errorf("version %d: %v", n+i*4, err)
			}
		}
		return
	}
	file := filepath.Join(t.TempDir(), "delegations.json")
	var runs []*exec.Cmd
	for i := range 4 {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestD8Processes$")
		c.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d", variable, file, i+1))
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		runs = append(runs, c)
	}
	for _, c := range runs {
		if err := c.Wait(); err != nil {
			t.Errorf("one of them: %v", err)
		}
	}
	known, err := readState(file)
	if err != nil || len(known) != 1 || known[0].Version != 4+19*4 {
		t.Errorf("%+v, %v", known, err)
	}
}

func reasonOfState(err error) string {
	var e *stateError
	if errors.As(err, &e) {
		return e.code
	}
	return ""
}

func TestD8LockIsGivenUp(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "delegations.json")
	unlock, err := tryLock(file + ".lock")
	if err != nil || unlock == nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = remember(ctx, file, rootsOfState, "docker.io", 1, digest.FromString("x"))
	wantState(t, err, codeDelegationState, true)
	unlock()
	wantState(t, take(t, file, 1, "x"), "", false)
}

// The rows of T5 that rest on what was seen before, through the court: rollback, equivocation, a state that is broken or cannot be kept.
func TestT5DelegationState(t *testing.T) {
	t.Parallel()
	const image = "docker.io/acme2/app:1"
	version := func(n uint64) func(*DelegationDocument) { return func(doc *DelegationDocument) { doc.Version = n } }
	d := newDesk(t)
	p := d.policy(t, "")
	d.bulletin.put(t, d.document(version(5)), posting{by: d.issuer})
	wantReport(t, d.judge(t, p, image, d.run(), d.acme), Accepted, "")
	d.bulletin.put(t, d.document(version(4)), posting{by: d.issuer})
	r := d.judge(t, p, image, d.run(), d.acme)
	wantReport(t, r, Rejected, codeDelegationRollback)
	if !strings.Contains(r.Detail, "version 4; version 5 was seen before") {
		t.Errorf("%s", r.Detail)
	}
	wantReport(t, d.judge(t, p, image, d.run(), d.hub), Accepted, "") // D5
	d.bulletin.put(t, d.document(func(doc *DelegationDocument) {
		version(5)(doc)
		doc.Grants = append(doc.Grants, grantOf("docker.io/evil", d.other))
	}), posting{by: d.issuer})
	wantReport(t, d.judge(t, p, image, d.run(), d.acme), Rejected, codeDelegationEquivocation)
	d.bulletin.put(t, d.document(version(6)), posting{by: d.issuer})
	wantReport(t, d.judge(t, p, image, d.run(), d.acme), Accepted, "")

	// A document that does not count is not taken down: nobody else's version makes the issuer's an old one.
	for name, o := range map[string]posting{"of another": {by: d.ca}, "unsigned": {}} {
		d.bulletin.put(t, d.document(version(99)), o)
		if r := d.judge(t, p, image, d.run(), d.acme); r.Reason != codeDelegationUntrusted {
			t.Errorf("%s: %s", name, r.Reason)
		}
	}
	d.bulletin.put(t, d.document(func(doc *DelegationDocument) {
		version(98)(doc)
		doc.Issued, doc.Expires = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
	}), posting{by: d.issuer})
	wantReport(t, d.judge(t, p, image, d.run(), d.acme), Rejected, codeDelegationExpired)
	d.bulletin.put(t, d.document(version(7)), posting{by: d.issuer})
	wantReport(t, d.judge(t, p, image, d.run(), d.acme), Accepted, "")

	if err := os.WriteFile(d.sources.State, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantReport(t, d.judge(t, p, image, d.run(), d.acme), Rejected, codeDelegationState)
	wantReport(t, d.judge(t, p, image, d.run(), d.hub), Accepted, "")

	away := d.run()
	away.State = filepath.Join(d.sources.State, "below", "a-file")
	wantReport(t, d.judge(t, p, image, away, d.acme), Undetermined, codeDelegationState)
	none := d.run()
	none.State = ""
	r = d.judge(t, p, image, none, d.acme)
	wantReport(t, r, Accepted, "")
	if !strings.Contains(strings.Join(r.Delegation.Warnings, "\n"), "no state is kept") {
		t.Errorf("warnings %q", r.Delegation.Warnings)
	}
}
