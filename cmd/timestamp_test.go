package cmd

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope/tsatest"
)

// tsa starts an authority whose root stands in the file NAME.pem, and returns it with the flags that name it.
func (w *world) tsa(name string, o tsatest.Options) (*tsatest.Authority, []string) {
	w.t.Helper()
	a := tsatest.New(o)
	url := a.Start()
	w.t.Cleanup(a.Stop)
	file := w.file(name+".pem", string(certtest.PEM(a.Roots()...)))
	return a, []string{"--timestamp-url", url, "--timestamp-roots", file, "--allow-private"}
}

func (w *world) ref(tag string) string { return "oci:" + w.path("lay") + ":" + tag }

// stampedResult is what tests read of the JSON of timestamp, and of sign.
type stampedResult struct {
	Kind, Reference, Digest string
	DryRun                  bool
	Signatures              []struct {
		Signature, New, Status, Reason, Present string
		Timestamp                               *struct {
			At         time.Time
			Authority  string
			URL        string
			HoldsUntil time.Time
		}
		PresentTimestamp *struct{ Authority string }
		Verifiers        []struct {
			Setting        string
			Old, New, Both bool
		}
	}
}

func (r stampedResult) statuses() string {
	var out []string
	for _, s := range r.Signatures {
		out = append(out, s.Status)
	}
	return strings.Join(out, " ")
}

func TestTimestampCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	tsa, flags := w.tsa("tsa", tsatest.Options{})
	w.want(0, w.sign(w.ref("1.0"))...)
	before := w.tree("lay")

	args := append([]string{"timestamp", w.ref("1.0")}, flags...)
	plan := w.want(0, append(args, "--dry-run")...)
	for _, part := range []string{"plan", "to be added", "AS IT IS", "with TSA root, always", "1 new referrer", "1 to countersign, 0 unchanged. Nothing was written."} {
		if !strings.Contains(plan.out, part) {
			t.Errorf("the plan does not say %q:\n%s", part, plan.out)
		}
	}
	if diff := cmp.Diff(before, w.tree("lay")); diff != "" {
		t.Errorf("a dry run wrote:\n%s", diff)
	}
	var r stampedResult
	decode(t, w.want(0, append(args, "-o", "json", "--dry-run")...), &r)
	if !r.DryRun || r.statuses() != "planned" || len(r.Signatures[0].Verifiers) != 3 || r.Signatures[0].New != "" {
		t.Errorf("plan %+v", r)
	}
	if tsa.Requests() != 2 { // each run asks whether it answers
		t.Errorf("%d requests", tsa.Requests())
	}

	r = stampedResult{}
	decode(t, w.want(0, append(args, "-o", "json")...), &r)
	s := r.Signatures[0]
	if r.Kind != "timestamp" || s.Status != "written" || s.New == s.Signature || s.Timestamp == nil || s.Timestamp.URL != flags[1] || !s.Timestamp.HoldsUntil.Equal(tsa.Certificate.NotAfter) {
		t.Errorf("%+v", r)
	}
	again := w.want(0, args...)
	if !strings.Contains(again.out, "unchanged") || !strings.Contains(again.out, "0 signatures countersigned, 2 unchanged") {
		t.Errorf("again:\n%s", again.out)
	}
	w.want(0, append(args, "--replace")...)
	r = stampedResult{}
	decode(t, w.want(0, append(args, "-o", "json")...), &r)
	if r.statuses() != "unchanged" || r.Signatures[0].PresentTimestamp == nil {
		t.Errorf("after --replace: %+v", r)
	}
	w.want(0, "verify", w.ref("1.0"), "--root", w.path("root.pem"))
}

func TestTimestampAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	tsa, flags := w.tsa("tsa", tsatest.Options{})
	for _, tag := range []string{"1.0", "2.0", "3.0"} {
		w.image("lay", tag, tag)
		if tag != "3.0" {
			w.want(0, w.sign(w.ref(tag))...)
		}
	}
	args := append([]string{"timestamp", "--all", "oci:" + w.path("lay"), "-o", "json"}, flags...)
	count := func(g told) map[string]int {
		out := map[string]int{}
		for _, l := range lines(g.out) {
			var r stampedResult
			if err := json.Unmarshal([]byte(l), &r); err != nil {
				t.Fatal(err)
			}
			if r.Kind == "timestamp" {
				out[r.statuses()]++
			}
		}
		return out
	}
	if diff := cmp.Diff(map[string]int{"planned": 2}, count(w.want(0, append(args, "--dry-run")...))); diff != "" {
		t.Errorf("plan:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"written": 2}, count(w.want(0, args...))); diff != "" {
		t.Errorf("first:\n%s", diff)
	}
	again := count(w.want(0, args...))
	if again["unchanged there"]+again["there unchanged"] != 2 || len(again) > 2 {
		t.Errorf("again: %v", again)
	}
	if tsa.Requests() != 1+3+1 {
		t.Errorf("%d requests", tsa.Requests())
	}
	// The lines are a batch.
	list := w.file("list", w.want(0, args...).out)
	w.want(0, append([]string{"timestamp", "--batch", list}, flags...)...)
}

// TestTimestampRefusals: what is wrong is said with its reason, exit code and hint, and nothing is written.
func TestTimestampRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	w.image("lay", "bare", "bare")
	w.want(0, w.sign(w.ref("1.0"))...)
	_, flags := w.tsa("tsa", tsatest.Options{})
	_, down := w.tsa("down", tsatest.Options{Lie: tsatest.Status500})
	_, lies := w.tsa("lies", tsatest.Options{Lie: tsatest.WrongNonce})
	_, late := w.tsa("late", tsatest.Options{Now: func() time.Time { return time.Now().Add(-time.Hour) }})
	_, refuses := w.tsa("refuses", tsatest.Options{Lie: tsatest.Rejected})
	w.tsa("other", tsatest.Options{})
	w.file("leaf.pem", string(certtest.PEM(certtest.Root("x").Intermediate("y").Certificate)))
	before := w.tree("lay")
	url := flags[:2]
	for name, c := range map[string]struct {
		args   []string
		code   int
		reason string
		text   string // of error or hint
	}{
		"no URL":              {[]string{"--timestamp-roots", w.path("tsa.pem")}, 3, "usage", "--timestamp-url"},
		"no roots":            {url, 3, "usage", "--timestamp-roots FILE"},
		"no URL at all":       {nil, 3, "usage", "--timestamp-url is missing"},
		"not http":            {[]string{"--timestamp-url", "ftp://tsa.example"}, 3, "usage", "no http or https URL"},
		"no host":             {[]string{"--timestamp-url", "http:///tsa"}, 3, "usage", "no http or https URL"},
		"a credential":        {[]string{"--timestamp-url", "http://me:secret@tsa.example"}, 3, "usage", "credential"},
		"roots without roots": {append([]string{"--timestamp-roots", w.path("leaf.pem")}, url...), 3, "usage", "no root certificate"},
		"roots of another":    {[]string{"--timestamp-url", flags[1], "--timestamp-roots", w.path("other.pem"), "--allow-private"}, 3, "timestamp-untrusted", "as its operator publishes it"},
		"private address":     {flags[:4], 4, "address-private", "--allow-private"},
		"down":                {down, 4, "tsa-unavailable", "500"},
		"lies":                {lies, 4, "tsa-invalid", "nonce"},
		"its clock":           {late, 4, "tsa-clock", "clock"},
		"refuses":             {refuses, 4, "tsa-refused", "operator"},
	} {
		for _, args := range [][]string{append([]string{"timestamp", w.ref("1.0")}, c.args...), w.sign(w.ref("bare"), c.args...)} {
			if args[0] == "sign" && name == "no URL at all" {
				continue
			}
			got := w.want(c.code, append(args, "-o", "json")...)
			if got.reason(t) != c.reason {
				t.Errorf("%s: %s: reason %s, want %s", args[0], name, got.reason(t), c.reason)
			}
			if !strings.Contains(got.out, c.text) || strings.Contains(got.out, "secret") {
				t.Errorf("%s: %s: does not say %q: %s", args[0], name, c.text, got.out)
			}
			if !strings.Contains(got.out, `"hint"`) {
				t.Errorf("%s: %s: no hint: %s", args[0], name, got.out)
			}
		}
	}
	if got := w.want(1, append([]string{"timestamp", w.ref("bare"), "-o", "json"}, flags...)...); got.reason(t) != "unsigned" {
		t.Errorf("unsigned: %s", got.out)
	}
	if got := w.want(3, append([]string{"timestamp", "oci-archive:" + w.path("a.tar"), "-o", "json"}, flags...)...); got.reason(t) != "usage" {
		t.Errorf("an archive: %s", got.out)
	}
	if diff := cmp.Diff(before, w.tree("lay")); diff != "" {
		t.Errorf("something was written:\n%s", diff)
	}
}

// TestTimestampEnded: a chain that is not valid now cannot gain; a batch goes on with the others.
func TestTimestampEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, flags := w.tsa("tsa", tsatest.Options{})
	w.keys(certtest.Valid(time.Now().Add(-20*time.Hour), time.Now().Add(-time.Hour)))
	w.image("lay", "ended", "ended")
	w.env.Now = func() time.Time { return time.Now().Add(-10 * time.Hour) }
	w.want(0, w.sign(w.ref("ended"))...)
	w.env.Now = time.Now
	w.keys()
	w.image("lay", "good", "good")
	w.want(0, w.sign(w.ref("good"))...)

	alone := w.want(3, append([]string{"timestamp", w.ref("ended"), "-o", "json"}, flags...)...)
	if alone.reason(t) != "expired" || !strings.Contains(alone.out, "imprint rechain REF --chain FILE --timestamp-url URL") {
		t.Errorf("%s", alone.out)
	}
	if got := w.want(3, append([]string{"timestamp", "--batch", w.file("one", w.ref("ended"))}, flags...)...); !strings.Contains(got.out, "skipped") {
		t.Errorf("%s", got.out)
	}
	list := w.file("list", w.ref("ended")+"\n"+w.ref("good")+"\n")
	both := w.want(0, append([]string{"timestamp", "--batch", list}, flags...)...)
	if !strings.Contains(both.out, "1 skipped, 1 timestamped of 2 items") && !strings.Contains(both.out, "1 timestamped, 1 skipped of 2 items") || !strings.Contains(both.out, "(expired)") {
		t.Errorf("%s", both.out)
	}
}

// TestTimestampReplaceGuard: with --replace what verifiers of another authority accept is not taken from them; the plan says so, and the
// others are done.
func TestTimestampReplaceGuard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	_, theirs := w.tsa("theirs", tsatest.Options{Name: "theirs"})
	_, ours := w.tsa("ours", tsatest.Options{})
	w.want(0, w.sign(w.ref("1.0"), theirs...)...)
	w.keys()
	w.want(0, w.sign(w.ref("1.0"))...)
	before := w.tree("lay")
	args := append([]string{"timestamp", w.ref("1.0"), "--replace"}, ours...)
	plan := w.want(0, append(args, "--dry-run")...)
	for _, part := range []string{"would-break-timestamp", "1 to countersign, 0 unchanged, 1 skipped", "old ones are deleted once the new ones are listed"} {
		if !strings.Contains(plan.out, part) {
			t.Errorf("the plan does not say %q:\n%s", part, plan.out)
		}
	}
	if diff := cmp.Diff(before, w.tree("lay")); diff != "" {
		t.Errorf("a dry run wrote:\n%s", diff)
	}
	got := w.want(7, append(args, "-o", "json")...)
	if got.reason(t) != "would-break-timestamp" {
		t.Errorf("%s", got.out)
	}
	got = w.want(3, append(args, "-o", "json")...) // nothing is left but that
	if got.reason(t) != "would-break-timestamp" || !strings.Contains(got.out, "leave out --replace") {
		t.Errorf("%s", got.out)
	}
	var r stampedResult
	decode(t, w.want(0, append([]string{"timestamp", w.ref("1.0"), "-o", "json"}, ours...)...), &r)
	if r.statuses() != "written unchanged" && r.statuses() != "unchanged written" {
		t.Errorf("beside: %+v", r)
	}
}

// TestTimestampGate: a policy judges what comes of it, before it is written.
func TestTimestampGate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	w.want(0, w.sign(w.ref("1.0"))...)
	tsa, flags := w.tsa("tsa", tsatest.Options{})
	_, other := w.tsa("other", tsatest.Options{Name: "other"})
	w.file("stranger.pem", string(certtest.PEM(certtest.Root("stranger").Certificate)))
	w.file("policy.yaml", `version: 1
roots: {org: root.pem}
timestamps: {roots: [tsa.pem], use: always}
scopes:
  registry.example: {trust: [org]}
`)
	judged := []string{"--policy", w.path("policy.yaml"), "--as", "registry.example/app:1.0", "-o", "json"}
	before := w.tree("lay")
	got := w.want(1, append(append([]string{"timestamp", w.ref("1.0")}, flags...), "--root", w.path("stranger.pem"), "-o", "json")...)
	if got.reason(t) != "root-not-trusted" && got.reason(t) != "no-trusted-signature" {
		t.Errorf("a stranger's root: %s", got.out)
	}
	// By another authority the policy would not accept it.
	if got := w.want(1, append(append([]string{"timestamp", w.ref("1.0")}, other...), judged...)...); got.reason(t) != "timestamp-untrusted" {
		t.Errorf("another authority: %s", got.out)
	}
	if diff := cmp.Diff(before, w.tree("lay")); diff != "" {
		t.Errorf("something was written:\n%s", diff)
	}
	// The roots need not be said twice.
	var r stampedResult
	decode(t, w.want(0, append([]string{"timestamp", w.ref("1.0"), "--timestamp-url", tsa.Start(), "--allow-private"}, judged...)...), &r)
	if r.statuses() != "written" {
		t.Errorf("%+v", r)
	}
}

func TestSignWithTimestampCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	tsa, flags := w.tsa("tsa", tsatest.Options{})
	plan := w.want(0, w.sign(w.ref("1.0"), append(flags, "--dry-run")...)...)
	if !strings.Contains(plan.out, "to be had from 127.0.0.1:") {
		t.Errorf("plan:\n%s", plan.out)
	}
	said := w.want(0, w.sign(w.ref("1.0"), flags...)...)
	if !strings.Contains(said.out, " UTC, 127.0.0.1:") || strings.Contains(said.out, "none: the signature holds") {
		t.Errorf("it says:\n%s", said.out)
	}
	w.image("lay", "two", "2.0")
	w.want(0, w.sign(w.ref("2.0"))...)
	later := w.want(0, w.sign(w.ref("2.0"), flags...)...)
	for _, part := range []string{"timestamped  ", "new, with a timestamp", "0 uses of the key", "1 signature had no timestamp"} {
		if !strings.Contains(later.out, part) {
			t.Errorf("it does not say %q:\n%s", part, later.out)
		}
	}
	// From environment and configuration, as every flag.
	w.image("lay", "three", "3.0")
	w.file("conf.yaml", "timestamp-url: [\""+tsa.Start()+"\"]\ntimestamp-roots: [tsa.pem]\n")
	var r stampedResult
	decode(t, w.want(0, w.sign(w.ref("3.0"), "--config", w.path("conf.yaml"), "--allow-private", "-o", "json")...), &r)
	if len(r.Signatures) != 1 || r.Signatures[0].Timestamp == nil || r.Signatures[0].Timestamp.URL != tsa.Start() {
		t.Errorf("by the configuration: %+v", r)
	}
	w.image("lay", "four", "4.0")
	w.setenv("IMPRINT_TIMESTAMP_URL", "http://127.0.0.1:1\n"+tsa.Start())
	w.setenv("IMPRINT_TIMESTAMP_ROOTS", w.path("tsa.pem"))
	w.setenv("IMPRINT_ALLOW_PRIVATE", "true") // never from there
	got := w.want(4, w.sign(w.ref("4.0"), "-o", "json")...)
	if got.reason(t) != "address-private" {
		t.Errorf("%s", got.out)
	}
	got = w.want(0, w.sign(w.ref("4.0"), "--allow-private")...)
	if !strings.Contains(got.err, "another time-stamping authority was asked") {
		t.Errorf("no word of the one that is down: %s", got.err)
	}
}

// TestF35PublishWritesNothing: the authority is asked before anything is copied.
func TestF35PublishWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	_, down := w.tsa("down", tsatest.Options{Lie: tsatest.Status500})
	tsa, flags := w.tsa("tsa", tsatest.Options{})
	publish := func(flags []string) []string {
		return append([]string{"publish", w.ref("1.0"), "oci:" + w.path("out") + ":1.0", "--key", w.path("leaf.key"), "--chain", w.path("chain.pem"), "-o", "json"}, flags...)
	}
	if got := w.want(4, publish(down)...); got.reason(t) != "tsa-unavailable" {
		t.Errorf("%s", got.out)
	}
	for file := range w.tree("out") {
		if strings.Contains(file, "/blobs/") {
			t.Errorf("%s was written", file)
		}
	}
	var r struct {
		Signed stampedResult
		Tags   []struct{ Tag, Status string }
	}
	decode(t, w.want(0, publish(flags)...), &r)
	if len(r.Signed.Signatures) != 1 || r.Signed.Signatures[0].Timestamp == nil || len(r.Tags) != 1 {
		t.Errorf("%+v", r)
	}
	if tsa.Requests() != 2 {
		t.Errorf("%d requests", tsa.Requests())
	}
}
