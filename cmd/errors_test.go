package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// oneErrorOneHint checks that a run says what is wrong in one line and what to do in another, and the same in JSON.
func oneErrorOneHint(t *testing.T, got told) {
	t.Helper()
	if n := strings.Count("\n"+got.err, "\nimprint: error: "); n != 1 {
		t.Errorf("%d error lines, want 1:\n%s", n, got.err)
	}
	if n := strings.Count("\n"+got.err, "\nimprint: hint: "); n != 1 {
		t.Errorf("%d hint lines, want 1:\n%s", n, got.err)
	}
	for _, internal := range []string{"strconv.", "openat ", ".imprint-", "invalid argument", "%!", "<nil>"} {
		if strings.Contains(got.err, internal) {
			t.Errorf("%q is nothing to show to a person:\n%s", internal, got.err)
		}
	}
}

// TestEveryErrorHasOneHint sweeps the commands with what people get wrong: a $NAME is a file of the world or a registry.
func TestEveryErrorHasOneHint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	other, _ := certtest.ChainOf(3, "P-384")
	files := map[string]string{
		"KEY": w.path("leaf.key"), "CHAIN": w.path("chain.pem"), "ROOT": w.path("root.pem"),
		"OTHERKEY":  w.file("other.key", string(certtest.KeyPEM(other))),
		"GARBAGE":   w.file("garbage", "garbage\n"),
		"EMPTY":     w.file("empty", ""),
		"FOLDER":    w.mkdir("folder"),
		"ABSENT":    w.path("absent"),
		"NOTAR":     w.file("no.tar", "garbage\n"),
		"NOPOLICY":  w.file("no-policy.yaml", "version: 1\n"),
		"TYPO":      w.file("typo.yaml", "kye: x\n"),
		"LAYOUT":    w.path("lay"),
		"NOWHERE":   w.path("nowhere/deeper"),
		"LEAFALONE": w.path("leaf.pem"),
	}
	b, err := os.ReadFile(w.path("chain.pem"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(b), "-----END CERTIFICATE-----")
	w.file("leaf.pem", first+"-----END CERTIFICATE-----\n")
	w.image("lay", "one", "1.0")
	open := w.file("open.key", string(certtest.KeyPEM(other)))
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	files["OPENKEY"] = open

	down := httptest.NewServer(nil)
	down.Close()
	files["DOWN"] = strings.TrimPrefix(down.URL, "http://")
	refusing := func(status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	files["LOCKED"], files["FORBIDDEN"], files["CONFLICT"] = refusing(401), refusing(403), refusing(409)

	const ref = "oci:$LAYOUT:1.0"
	const signed = "sign " + ref + " --key $KEY --chain $CHAIN "
	const judged = "verify " + ref + " --root $ROOT "
	for _, tt := range []struct {
		code int
		args string
		says string
	}{
		{3, "sign", "sign: REF… is missing"},
		{3, "verify", "verify: REF… is missing"},
		{3, "inspect", "inspect: REF… is missing"},
		{3, "tree", "tree: REF… is missing"},
		{3, "rechain", "rechain: REF… is missing"},
		{3, "policy explain", "policy explain: REF… is missing"},
		{3, "copy", "copy: SRC DST is missing"},
		{3, "copy " + ref, "copy takes SRC DST"},
		{3, "copy a b c", `"c" is one too many`},
		{3, "key", "key what?"},
		{3, "chain", "chain what?"},
		{3, "policy", "policy what?"},
		{3, "key frob", `unknown command "frob"`},
		{3, "key show", "key show takes KEY"},
		{3, "key csr", "key csr takes KEY"},
		{3, "chain check", "chain check takes FILE"},
		{3, "login", "login takes HOST"},
		{3, "logout a b", `"b" is one too many`},
		{3, "doctor a b", `"b" is one too many`},
		{3, "completion", "completion takes"},
		{3, "completion frob", "no completion for"},
		{3, "help frob", "no help on"},

		{3, "sign --frob", "sign: unknown flag --frob"},
		{3, signed + "--jobs x", `sign: --jobs "x": it is a whole number`},
		{3, signed + "--jobs 0", "--jobs 0"},
		{3, signed + "--dry-run=x", `--dry-run "x": it is true or false`},
		{3, signed + "--passphrase-fd x", "whole number"},
		{3, signed + "--expiry 0", `--expiry "0"`},
		{3, signed + "--expiry 0d", "longer than nothing"},
		{3, signed + "--expiry -1d", `--expiry "-1d"`},
		{3, signed + "--expiry 9999999h", "longer than can be reckoned with"},
		{3, signed + "--signature-format x", "sign: --signature-format x: it is jws or cose"},
		{3, signed + "--claim a/b", "not a tag"},
		{3, signed + "--claim=", "--claim is empty"},
		{3, signed + "--claim-name x", "HOST/REPO"},
		{3, signed + "-m x", "KEY=VALUE"},
		{3, signed + "-m io.imprint.x=1", "reserved"},
		{3, signed + "--move [", `sign: --move "[" is no pattern`},
		{3, signed + "--move=", "--move is empty"},
		{3, signed + "--trust-realm a/b", `--trust-realm "a/b" is no host`},
		{3, signed + "--config $ABSENT", "reading the configuration $ABSENT: no such file"},
		{3, signed + "--config $TYPO", `unknown key "kye"`},
		{3, signed + "--config $FOLDER", "not a regular file"},
		{3, signed + "--ca-file $ABSENT", "$ABSENT"},
		{3, signed + "--ca-file $GARBAGE", "no certificate in it"},
		{3, signed + "--client-cert $ABSENT", "client certificate"},
		{3, signed + "-o yaml", "sign: --output yaml"},

		{3, "sign " + ref, "sign: no key to sign with"},
		{3, "sign " + ref + " --key $KEY", "sign: no certificate chain"},
		{3, "sign " + ref + " --key $ABSENT --chain $CHAIN", "$ABSENT"},
		{3, "sign " + ref + " --key nokey --chain $CHAIN", `no key is named "nokey"`},
		{3, "sign " + ref + " --key $OPENKEY --chain $CHAIN", "chmod 600"},
		{3, "sign " + ref + " --key $GARBAGE --chain $CHAIN", "neither PEM nor DER"},
		{3, "sign " + ref + " --key foo:bar --chain $CHAIN", "no provider for foo"},
		{3, "sign " + ref + " --key $OTHERKEY --chain $CHAIN", "key-mismatch"},
		{3, "sign " + ref + " --key $KEY --chain $ABSENT", "reading $ABSENT: no such file"},
		{3, "sign " + ref + " --key $KEY --chain $FOLDER", "reading $FOLDER: it is not a regular file"},
		{3, "sign " + ref + " --key $KEY --chain $EMPTY", "no-certificates"},
		{3, "sign " + ref + " --key $KEY --chain $GARBAGE", "malformed-certificates"},
		{3, "sign " + ref + " --key $KEY --chain $KEY", "private-key"},
		{3, "sign " + ref + " --key $KEY --chain $LEAFALONE", "incomplete"},
		{3, "sign nohost:1 --key $KEY --chain $CHAIN", "add the registry host"},
		{3, "sign oci:$LAYOUT --key $KEY --chain $CHAIN", "sign: oci:$LAYOUT names no artifact"},
		{4, "sign oci:$LAYOUT:2.0 --key $KEY --chain $CHAIN", "not found"},
		{4, "sign oci:$ABSENT:2.0 --key $KEY --chain $CHAIN", "no such folder"},
		{4, "sign $DOWN/app:1 --key $KEY --chain $CHAIN", "unavailable"},
		{5, "sign $LOCKED/app:1 --key $KEY --chain $CHAIN", "not authorised"},
		{5, "sign $FORBIDDEN/app:1 --key $KEY --chain $CHAIN", "not authorised"},
		{4, "sign $CONFLICT/app:1 --key $KEY --chain $CHAIN", "refused"},
		{4, "verify $DOWN/app:1 --root $ROOT", "unavailable"},
		{5, "copy $LOCKED/app:1 oci:$NOWHERE", "not authorised"},
		{4, "copy " + ref + " $DOWN/app", "unavailable"},
		{5, "copy " + ref + " $FORBIDDEN/app", "not authorised"},
		{4, "inspect $DOWN/app:1", "unavailable"},
		{4, "tree $DOWN/app:1", "unavailable"},
		{4, "rechain $DOWN/app:1 --chain $CHAIN", "unavailable"},

		{3, "verify " + ref, "no trust policy"},
		{3, "verify " + ref + " --root $ABSENT", "reading $ABSENT: no such file"},
		{3, "verify " + ref + " --root $LEAFALONE", "trust the root that its chain ends in"},
		{3, "verify " + ref + " --root $ROOT --policy-sha256 00", "verify: --policy-sha256 pins a policy, and --root is none"},
		{3, "verify " + ref + " --policy $ABSENT", "no such file"},
		{3, "verify " + ref + " --policy $NOPOLICY", "no scopes"},
		{3, judged + "--policy $NOPOLICY", "exclude each other"},
		{3, judged + "--identity xx", "no attribute"},
		{3, judged + "--as x", "--as"},
		{3, judged + "--only-root x", `no root "x"`},
		{3, judged + "--algorithms X", `algorithm "X"`},
		{3, "verify --batch $ABSENT --root $ROOT", "reading the batch $ABSENT: no such file"},
		{3, "verify --batch $FOLDER --root $ROOT", "not a regular file"},
		{3, "verify --batch $EMPTY --root $ROOT", "holds no item"},
		{3, "verify --batch - --root $ROOT", "standard input holds no item"},

		{3, "copy " + ref + " oci-archive:$NOTAR", "$NOTAR exists"},
		{3, "copy " + ref + " oci-archive:$NOTAR --dry-run", "$NOTAR exists"},
		{3, "copy " + ref + " oci:$NOWHERE --referrers x", "--referrers x"},
		{3, "copy " + ref + " oci:$NOWHERE --move [", `copy: --move "[" is no pattern`},
		{3, "copy " + ref + " oci:$NOWHERE --platform linux/s390x", "platform"},
		{4, "copy oci-archive:$ABSENT.tar:1 oci:$NOWHERE", "not found"},
		{4, "copy oci-archive:$NOTAR:1 oci:$NOWHERE", "no tar"},
		{1, "copy " + ref + " oci:$NOWHERE --require-signature", "oci:$LAYOUT:1.0 has no signature"},
		{8, "copy " + ref + " oci:$GARBAGE:1", "$GARBAGE"},
		{8, "copy " + ref + " oci:/proc/imprint/lay:1", "making the layout"},
		{3, "rechain " + ref, "rechain: no certificates"},
		{3, "rechain " + ref + " --chain $ABSENT", "$ABSENT: no such file"},
		{3, "rechain " + ref + " --chain $FOLDER", "no certificate file"},
		{1, "rechain " + ref + " --chain $CHAIN", "oci:$LAYOUT:1.0 has no signature"},

		{3, "key generate", "key generate: no file to write"},
		{3, "key generate $KEY --allow-plaintext", "$KEY exists"},
		{3, "key generate $FOLDER --allow-plaintext", "is a folder"},
		{3, "key generate --algorithm X new.key --allow-plaintext", `unknown algorithm "X"`},
		{8, "key generate $NOWHERE --allow-plaintext", "writing $NOWHERE: there is no folder"},
		{3, "key show $ABSENT", "no such file"},
		{3, "key csr $KEY", "no subject"},
		{8, "key csr $KEY --subject C=DE,ST=BE,O=A,CN=x --out $NOWHERE", "writing $NOWHERE: there is no folder"},
		{3, "chain show $ABSENT", "$ABSENT: no such file"},
		{3, "chain show $GARBAGE", "malformed-certificates"},
		{3, "chain build $LEAFALONE", "incomplete"},
		{3, "chain check $CHAIN --at x", "no date"},
		{3, "policy check --policy $ABSENT", "no such file"},
		{3, "policy check", "no trust policy"},
		{3, "login u:p@x", "no password"},
		{3, "login $DOWN", "as whom?"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			w := *w
			w.t = t
			w.env.In = strings.NewReader("")
			fill := func(s string) string { return os.Expand(s, func(name string) string { return files[name] }) }
			args := make([]string, 0, 8)
			for _, a := range strings.Fields(tt.args) {
				args = append(args, fill(a))
			}
			got := w.want(tt.code, args...)
			oneErrorOneHint(t, got)
			if says := fill(tt.says); !strings.Contains(got.err, says) {
				t.Errorf("want %q in\n%s", says, got.err)
			}
			if strings.Contains(tt.args, "-o yaml") {
				return
			}
			asJSON := w.want(tt.code, append(args, "-o", "json")...)
			var line struct {
				Kind, Error, Reason, Hint string
				ExitCode                  int
			}
			if err := json.Unmarshal([]byte(asJSON.out), &line); err != nil || line.Kind != "error" || line.Error == "" || line.Reason == "" || line.Hint == "" || line.ExitCode != tt.code {
				t.Errorf("one object with error, reason, hint and exit code %d is expected: %q: %v", tt.code, asJSON.out, err)
			}
		})
	}
	t.Cleanup(func() { // once the subtests are through
		for _, name := range []string{"absent", "nowhere"} {
			if _, err := os.Stat(w.path(name)); err == nil {
				t.Errorf("%s was written", name)
			}
		}
	})
}

// TestPartlyDone: a run that wrote something before it failed ends in 7, whatever the failure; a full disk stays the disk's.
func TestPartlyDone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		done bool
		code int
	}{
		{registry.ErrUnavailable, false, 4},
		{registry.ErrUnavailable, true, 7},
		{registry.ErrRefused, false, 4},
		{registry.ErrRefused, true, 7},
		{registry.ErrUnauthorized, true, 7},
		{registry.ErrTagMoves, true, 7},
		{registry.ErrDisk, true, 8},
		{nil, true, 0},
	} {
		if got := exitCode(partlyDone(tt.err, tt.done)); got != tt.code {
			t.Errorf("%v, done %v: exit %d, want %d", tt.err, tt.done, got, tt.code)
		}
	}
}

// TestG16CopyToAnImmutableTag: the registry refuses a tag after everything else was written, and later takes it.
func TestG16CopyToAnImmutableTag(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusForbidden, http.StatusConflict, http.StatusPreconditionFailed} {
		w := newWorld(t)
		w.image("lay", "one", "1.0")
		s := regtest.New(t, regtest.WithAPI)
		s.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
			refused := r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/1.0")
			if refused {
				rw.WriteHeader(status)
			}
			return refused
		})
		args := []string{"copy", "oci:" + w.path("lay") + ":1.0", s.Host + "/app", "--tag", "0.9", "--tag", "1.0"}
		oneErrorOneHint(t, w.want(7, args...))
		s.Intercept(nil)
		w.want(0, args...)
	}
	// Nothing may be written at all: nothing is partly done.
	w := newWorld(t)
	w.image("lay", "one", "1.0")
	s := regtest.New(t, regtest.WithAPI)
	s.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return false
		}
		rw.WriteHeader(http.StatusForbidden)
		return true
	})
	oneErrorOneHint(t, w.want(5, "copy", "oci:"+w.path("lay")+":1.0", s.Host+"/app"))
}

// TestFailFastWithOneJob: nothing is begun after the failure.
func TestFailFastWithOneJob(t *testing.T) {
	t.Parallel()
	for range 50 { // it was a race
		var ran atomic.Int32
		batchOf(context.Background(), t, batchFlags{jobs: 1, failFast: true}, []item{{"ok-0"}, {"down-1"}, {"ok-2"}, {"ok-3"}}, true, func(ctx context.Context, it item) (map[string]string, error) {
			ran.Add(1)
			return byName(ctx, it)
		})
		if ran.Load() != 2 {
			t.Fatalf("%d items were begun, want 2", ran.Load())
		}
	}
}

// TestFailFastCountsWhatItStopped as not run, also what stands before the failure in the list.
func TestFailFastCountsWhatItStopped(t *testing.T) {
	t.Parallel()
	began := make(chan struct{})
	got := batchOf(context.Background(), t, batchFlags{jobs: 2, failFast: true}, []item{{"ok-0"}, {"down-1"}}, true, func(ctx context.Context, it item) (map[string]string, error) {
		if it[0] == "ok-0" {
			close(began)
			<-ctx.Done()
			return nil, fmt.Errorf("reading: %w", ctx.Err())
		}
		<-began
		return byName(ctx, it)
	})
	if strings.Contains(got.err, "context canceled") || !strings.Contains(got.out, `"notRun":1`) || got.code != 4 {
		t.Errorf("exit %d\n%s%s", got.code, got.out, got.err)
	}
}

// TestInterruptedItemsSaySo: what a signal stopped is no failure of a registry.
func TestInterruptedItemsSaySo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(context.Background())
	got := batchOf(ctx, t, batchFlags{jobs: 1}, []item{{"ok-0"}, {"ok-1"}}, true, func(ctx context.Context, it item) (map[string]string, error) {
		cancel(interruption{syscall.SIGINT})
		return nil, fmt.Errorf("reading: %w", ctx.Err())
	})
	if got.code != 130 || strings.Contains(got.err, "context canceled") {
		t.Errorf("exit %d: %s", got.code, got.err)
	}
	for _, l := range lines(got.out) {
		if strings.Contains(l, `"kind":"error"`) && (!strings.Contains(l, `"reason":"interrupted"`) || !strings.Contains(l, `"exitCode":130`)) {
			t.Errorf("an interrupted item is %s", l)
		}
	}
	oneErrorOneHint(t, got)
}

// TestWarningsNameTheirItem: in a batch it would be anybody's.
func TestWarningsNameTheirItem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	w.want(0, w.sign("oci:"+w.path("lay")+":1.0")...)
	list := w.file("list", fmt.Sprintf("oci:%[1]s:1.0 oci:%[2]s:2.0\noci:%[1]s:1.0 oci:%[2]s:3.0\n", w.path("lay"), w.path("out")))
	got := w.want(0, "copy", "--batch", list)
	for _, tag := range []string{"2.0", "3.0"} {
		if want := "imprint: warning: oci:" + w.path("out") + ":" + tag + ": no signature claims the tag " + tag; !strings.Contains(got.err, want) {
			t.Errorf("want %q in %s", want, got.err)
		}
	}
	if got := w.want(0, "copy", "oci:"+w.path("lay")+":1.0", "oci:"+w.path("out")+":4.0", "--dry-run"); strings.Contains(got.err, "warning") || !strings.Contains(got.out, "no signature claims the tag 4.0") {
		t.Errorf("a plan shows its warnings itself, once:\n%s%s", got.out, got.err)
	}
}

func TestSkippable(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		coded("leaf-key-differs"): true, coded("not-issued-by"): true, coded("signature-invalid"): true, coded("chain-is-signed"): true,
		coded("identity-changes"): false, coded("ends-earlier"): false, registry.ErrUnavailable: false, context.Canceled: false, registry.ErrMalformed: true,
	} {
		if skippable(err) != want {
			t.Errorf("%v: skippable is %v", err, !want)
		}
	}
}

// TestK01InABatch: signatures that none of the certificates is for are skipped and counted, and it is an error only
// if there are no others.
func TestK01InABatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "mine", "mine")
	w.image("lay", "theirs", "theirs")
	w.want(0, w.sign("oci:"+w.path("lay")+":mine")...)
	key := certtest.Key("P-384")
	root := certtest.Root("Their Root")
	chain := root.Chain(root.Leaf(key.Public(), "their release"))
	w.want(0, "sign", "oci:"+w.path("lay")+":theirs", "--key", w.file("their.key", string(certtest.KeyPEM(key))), "--chain", w.file("theirs.pem", string(certtest.PEM(chain...))))
	mine, theirs := "oci:"+w.path("lay")+":mine", "oci:"+w.path("lay")+":theirs"

	var sum summary
	last := func(got told) {
		t.Helper()
		l := lines(got.out)
		sum = summary{}
		if err := json.Unmarshal([]byte(l[len(l)-1]), &sum); err != nil {
			t.Fatal(err)
		}
	}
	last(w.want(0, "rechain", theirs, mine, "--chain", w.path("chain.pem"), "--dry-run", "-o", "json"))
	if sum.Done != 1 || sum.Skipped != 1 || sum.Failed != 0 || sum.Statuses["skipped"] != 1 {
		t.Errorf("%+v", sum)
	}
	got := w.want(3, "rechain", theirs, theirs, "--chain", w.path("chain.pem"), "-o", "json")
	last(got)
	if sum.Skipped != 2 || sum.Done != 0 || sum.ExitCode != 3 {
		t.Errorf("%+v", sum)
	}
	if r := got.reason(t); r != "leaf-key-differs" {
		t.Errorf("reason %s", r)
	}
	oneErrorOneHint(t, w.want(3, "rechain", theirs, theirs, "--chain", w.path("chain.pem")))
	oneErrorOneHint(t, w.want(3, "rechain", theirs, "--chain", w.path("chain.pem")))
	last(w.want(4, "rechain", theirs, "oci:"+w.path("lay")+":absent", "--chain", w.path("chain.pem"), "-o", "json"))
}

// TestUsageErrorsKeepTheirWrapping: naming the command must not hide what the error is.
func TestUsageErrorsKeepTheirWrapping(t *testing.T) {
	t.Parallel()
	inner := errors.New("inner")
	err := named("key csr", usageHint("do it", "wrong: %w", inner))
	if !errors.Is(err, inner) || exitCode(err) != 3 || hint(err) != "do it" || reason(err) != "usage" || err.Error() != "key csr: wrong: inner" {
		t.Errorf("%v: %d %s", err, exitCode(err), hint(err))
	}
	for _, said := range []string{"key csr: no subject", "key csr K: no subject", "reading a: x"} {
		if got := named("key csr", usage("%s", said)).Error(); got != said {
			t.Errorf("%q became %q", said, got)
		}
	}
}

// TestA22TheSameTwiceInABatch: lines that name one artifact, by one tag or several, do not each sign what the others sign too.
func TestA22TheSameTwiceInABatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	d := w.image("lay", "one", "1.0", "2.0")
	s := regtest.New(t, regtest.WithAPI)
	w.want(0, "copy", "oci:"+w.path("lay")+":1.0", s.Host+"/app", "--tag", "1.0", "--tag", "2.0")
	var refs []string
	for range 4 {
		refs = append(refs, s.Host+"/app:1.0", s.Host+"/app:2.0", s.Host+"/app:1.0@"+d.String())
	}
	list := w.file("list", strings.Join(refs, "\n"))
	got := w.want(0, "sign", "--batch", list, "--key", w.path("leaf.key"), "--chain", w.path("chain.pem"))
	if !strings.Contains(got.out, "2 signed, 10 already signed of 12 items") && !strings.Contains(got.out, "10 already signed, 2 signed of 12 items") {
		t.Errorf("two claims are two signatures, and no more:\n%s", got.out)
	}
}

// TestTwoItemsOneTag: the second of a batch finds the tag of the first, however many are worked on at once.
func TestTwoItemsOneTag(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := regtest.New(t, regtest.WithAPI)
	var list strings.Builder
	for i := range 8 {
		name := fmt.Sprintf("v%d", i)
		w.image("lay", name, name)
		fmt.Fprintf(&list, "oci:%s:%s %s/app:latest\n", w.path("lay"), name, s.Host)
	}
	got := w.want(1, "copy", "--batch", w.file("list", list.String()))
	if !strings.Contains(got.out, "1 copied, 7 refused of 8 items") {
		t.Errorf("%s%s", got.out, got.err)
	}
}
