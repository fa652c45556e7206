package ui

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/colorprofile"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
	"github.com/imprint-oci/imprint/trust"
)

var update = flag.Bool("update", false, "write the golden screens")

var (
	now     = time.Date(2026, 11, 22, 8, 41, 30, 0, time.UTC)
	signed  = time.Date(2026, 11, 19, 7, 12, 0, 0, time.UTC)
	ends    = time.Date(2027, 1, 3, 0, 0, 0, 0, time.UTC)
	later   = time.Date(2028, 11, 20, 0, 0, 0, 0, time.UTC)
	release = "C=DE, ST=BE, O=Acme, CN=release 2026"
)

func sha(s string) digest.Digest { return digest.FromString(s) }

func descriptor(s, mediaType string, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: sha(s), Size: size}
}

func certificates(intermediate string, leafEnds, intermediateEnds time.Time) []certchain.Certificate {
	root := time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
	return []certchain.Certificate{
		{Subject: release, NotBefore: signed.AddDate(0, -7, 0), NotAfter: leafEnds, Thumbprint: "leaf" + intermediate},
		{Subject: "C=DE, ST=BE, O=Acme, CN=" + intermediate, NotBefore: signed.AddDate(-4, 0, 0), NotAfter: intermediateEnds, Thumbprint: intermediate, CA: true},
		{Subject: "C=DE, ST=BE, O=Acme, CN=Acme Root", NotBefore: root.AddDate(-20, 0, 0), NotAfter: root, Thumbprint: "root", CA: true, SelfSigned: true},
	}
}

func accepted() trust.Report {
	return trust.Report{
		Reference: "harbor.acme.example/prod/app:1.4.2", Digest: sha("app"), Verdict: trust.Accepted, Enforced: true,
		Scope:      &trust.ScopeSummary{Scope: "harbor.acme.example", File: "/etc/imprint/policy.yaml", Line: 9, Rule: "trust", Trust: []string{"org"}, Enforced: true},
		Revocation: "not checked: the policy has no revocation section",
		PolicyFile: "/etc/imprint/policy.yaml",
		Signatures: []trust.Judged{
			{Digest: sha("s1"), Accepted: true, Root: "org", Identity: release, Claims: []string{"1.4", "1.4.2"}, HasClaims: true,
				Metadata: map[string]string{"build": "8812", "branch": "main"}, SignedAt: &signed, HoldsUntil: &ends, FirstToEnd: "C=DE, ST=BE, O=Acme, CN=Acme Code Signing CA 3"},
			{Digest: sha("s2"), Reason: "root-not-trusted", Detail: "this scope does not trust CN=Dev Root", Identity: "C=DE, ST=BE, O=Acme, CN=build bot"},
			{Digest: sha("s3"), Reason: "manifest-malformed", Detail: "2 layers, a signature has 1", Malformed: true},
		},
		Now: now,
	}
}

func rejected() trust.Report {
	r := accepted()
	r.Reference, r.Verdict, r.Reason = "harbor.acme.example/prod/app:latest", trust.Rejected, "claim-not-covered"
	r.Signatures[0].Accepted, r.Signatures[0].Reason, r.Signatures[0].Detail = false, "claim-not-covered", `claims 1.4 and 1.4.2, not "latest"`
	r.Detail = r.Signatures[0].Detail
	r.Signatures[1].Chain = certificates("Dev CA", ends, later)
	r.Signatures[1].Detail = "the chain ends in C=DE, ST=BE, O=Acme, CN=Dev Root, which is none of the roots that this scope trusts"
	return r
}

func inspection() audit.Inspection {
	verifiers := map[envelope.Setting]bool{envelope.NoTSARoot: true, envelope.Always: false, envelope.AfterCertExpiry: true}
	one := audit.Signature{
		Digest: sha("s1"), Core: sha("core"), SameAs: []digest.Digest{sha("s2")}, Valid: true, Covers: true, Format: "jws", Algorithm: "ES384",
		Scheme: envelope.SchemeX509, Agent: "imprint/1.0.0", Identity: release, Claims: []string{"1.4", "1.4.2"}, HasClaims: true,
		Metadata: map[string]string{"build": "8812"}, SignedAt: &signed, HoldsUntil: &ends,
		Chain: certificates("Acme Code Signing CA 3", later, ends), Verifiers: verifiers,
	}
	two := one
	two.Digest, two.SameAs, two.Supersedes, two.Newest, two.HoldsUntil = sha("s2"), []digest.Digest{sha("s1")}, []digest.Digest{sha("s1")}, true, &later
	two.Chain = certificates("Acme Code Signing CA 4", later, later.AddDate(3, 0, 0))
	expires := now.AddDate(0, 0, 9)
	child := audit.Signature{
		Digest: sha("s3"), Core: sha("core3"), Newest: true, Valid: true, Covers: false, Format: "cose", Algorithm: "PS256", Scheme: envelope.SchemeX509,
		Identity: release, Claims: []string{}, HasClaims: true, SignedAt: &signed, Expiry: &expires, Timestamp: &signed, TSA: tsaOf(), HoldsUntil: &expires,
		Chain: certificates("Acme Code Signing CA 3", later, ends)[:1],
	}
	bad := audit.Signature{Digest: sha("s4"), Reason: "manifest-malformed", Detail: "2 layers, a signature has 1"}
	return audit.Inspection{
		Reference: "ghcr.io/acme/app:1.4.2", Digest: sha("app"), Artifact: descriptor("app", ocispec.MediaTypeImageIndex, 1612), What: "index, 2 platforms",
		Signatures: []audit.Signature{one, two, child, bad}, Referrers: map[string]int{"application/spdx+json": 1, "application/vnd.in-toto+json": 2}, Now: now,
	}
}

func tree() audit.Tree {
	sig := func(name string) audit.Branch {
		return audit.Branch{What: "signature", Role: "referrer", Descriptor: descriptor(name, ocispec.MediaTypeImageManifest, 4630), Identity: release, HoldsUntil: &ends,
			Detail: release + ", until 2027-01-03"}
	}
	platform := func(name string, more ...audit.Branch) audit.Branch {
		return audit.Branch{What: name, Role: "child", Descriptor: descriptor(name, ocispec.MediaTypeImageManifest, 1203), Referrers: more}
	}
	sbom := audit.Branch{What: "application/spdx+json", Role: "referrer", Descriptor: descriptor("sbom", ocispec.MediaTypeImageManifest, 733), Referrers: []audit.Branch{sig("s2")}}
	again := sbom
	again.Again, again.Referrers = true, nil
	return audit.Tree{
		Reference: "ghcr.io/acme/app:1.4.2", Now: now,
		Root: audit.Branch{What: "index, 2 platforms", Role: "root", Descriptor: descriptor("app", ocispec.MediaTypeImageIndex, 1612),
			Children: []audit.Branch{platform("linux/amd64", sig("s1"), sbom), platform("linux/arm64", again)},
			Referrers: []audit.Branch{sig("s3"), {What: "malformed", Role: "referrer", Descriptor: descriptor("bad", ocispec.MediaTypeImageManifest, 12),
				Reason: "ambiguous-manifest", Detail: "a member stands twice: \"layers\x1b[31m\""}}},
		Skipped: []registry.Skipped{{Descriptor: descriptor("stray", ocispec.MediaTypeImageManifest, 700), Reason: "subject-differs", Detail: "its own subject is another digest"}},
	}
}

func signing() signer.Result {
	sub := func(what, name, status string) signer.Signed {
		s := signer.Signed{What: what, Subject: descriptor(name, ocispec.MediaTypeImageManifest, 1203), Status: status}
		if status != signer.StatusPlanned {
			s.Signature = sha("sig " + name)
		}
		return s
	}
	return signer.Result{
		Reference: "ghcr.io/acme/app:1.4.2", Digest: sha("app"), Identity: release,
		Key:       "awskms:///arn:aws:kms:eu-central-1:123456789012:key/7c0e2b1d-0000-4000-8000-123456789012",
		Algorithm: "ES384", Format: "jws", Claims: []string{"1.4.2"}, SignedAt: now, HoldsUntil: ends, FirstToEnd: "C=DE, ST=BE, O=Acme, CN=Acme Code Signing CA 3",
		Chain: certificates("Acme Code Signing CA 3", later, ends),
		Signatures: []signer.Signed{sub("index, 2 platforms", "app", signer.StatusNew), sub("linux/amd64", "amd64", signer.StatusNew),
			sub("application/vnd.example.attestation.statement+json of linux/arm64", "arm64", signer.StatusAlreadySigned)},
		Written: 2, There: 1, KeyCalls: 2,
	}
}

func copied() copy.Result {
	return copy.Result{
		Source: "vendor.example/db/server:16.4", Destination: "harbor.acme.example/vendor/db/server", Digest: sha("db"), Images: 3, Referrers: 3, Signatures: 6,
		Bytes: 412_700_000, Mounted: 88_000_000, There: 2, Written: 10,
		Tags:       []copy.TagResult{{Tag: "16.4", Status: "written"}, {Tag: "latest", Was: sha("old"), Status: "moved"}},
		DigestTags: []copy.TagResult{{Tag: "sha256-" + sha("db").Encoded() + ".sig", Digest: sha("sig"), Status: "written"}},
		Objects: []copy.Object{{What: "signature", Descriptor: descriptor("s1", "", 1), Status: "superseded"},
			{What: "referrer", Descriptor: descriptor("s2", "", 1), Status: "skipped", Reason: "its subject is another digest"}},
	}
}

func planned(i int) copy.Result {
	r := copied()
	r.Source, r.Destination = fmt.Sprintf("vendor.example/team-%02d/a-name-that-is-rather-long/server:16.4", i), fmt.Sprintf("harbor.acme.example/vendor/team-%02d/a-name-that-is-rather-long/server", i)
	r.DryRun, r.Written, r.Bytes = true, 0, int64(i)*31_000_000
	r.Tags = []copy.TagResult{{Tag: "16.4", Status: "planned"}}
	if i == 1 {
		r.Tags[0].Was = sha("old")
		r.Mounted = 0
		r.Warnings = []string{"no signature claims the tag 16.4 (they claim 16): imprint verify will not accept it under that name"}
	}
	if i == 2 {
		r.Tags[0].Status = "there"
	}
	return r
}

func plan(name, status string, chain []certchain.Certificate, until time.Time) signer.Plan {
	p := signer.Plan{Subject: sha("app"), Signature: sha(name), Core: sha("core " + name), Status: status, Identity: release, NewLeaf: release,
		NowUntil: ends, HoldsUntil: until, Chain: chain}
	if status != signer.StatusUnchanged && status != signer.StatusSkipped {
		p.New = sha("new " + name)
		p.Timestamped = name == "s1"
		why := signer.Cause{What: signer.CauseNoTimestamp}
		if p.Timestamped {
			why = signer.Cause{What: signer.CauseStampOlder, Certificate: "O=Acme, CN=Acme Code Signing CA 4"}
		}
		p.Verdicts = []signer.Verdict{
			{Setting: envelope.NoTSARoot, Old: true, New: true, Both: true},
			{Setting: envelope.Always, Old: name == "s1", New: false, Both: name == "s1", NewCause: why},
			{Setting: envelope.AfterCertExpiry, Old: true, New: true, Both: true},
		}
		p.Afterwards = []signer.Verdict{
			{Setting: envelope.NoTSARoot, New: true, Both: true},
			{Setting: envelope.Always, Old: name == "s1", Both: name == "s1", NewCause: why},
			{Setting: envelope.AfterCertExpiry, Old: name == "s1", New: true, Both: true},
		}
	}
	return p
}

func rechained(status string) signer.RechainResult {
	chain := certificates("Acme Code Signing CA 4", later, later.AddDate(3, 0, 0))
	one := plan("s1", status, chain, later)
	one.Warnings = []string{"its timestamp, 2026-11-19, lies outside the validity of the new chain, which begins 2026-11-20; the present one has to stay beside it"}
	two := plan("s2", status, chain, later)
	two.Changed, two.NewLeaf = true, "C=DE, ST=BE, O=Acme, CN=release 2027"
	three := plan("s3", signer.StatusUnchanged, certificates("Acme Code Signing CA 3", later, ends), ends)
	four := plan("s4", signer.StatusSkipped, nil, ends)
	four.Identity, four.Reason = "C=DE, ST=BE, O=Acme, CN=legacy 2019", "leaf-key-differs"
	return signer.RechainResult{Reference: "harbor.acme.example/prod/app:1.4.2", Digest: sha("app"), Plans: []signer.Plan{one, two, three, four}, DryRun: status == signer.StatusPlanned}
}

func rechainPlan(w io.Writer, asked RechainAsked, failed []Failure, all ...signer.RechainResult) {
	sum := NewRechainSum(asked)
	for _, r := range all {
		sum.Add(r)
	}
	sum.Write(w, failed)
}

// rechainedAll is a plan of thousands, one result for each signature, some of them countersigned.
func rechainedAll() (all []signer.RechainResult) {
	add := func(n int, p signer.Plan) {
		for i := range n {
			all = append(all, signer.RechainResult{
				Reference: fmt.Sprintf("harbor.acme.example/team/app%d@%s", i%212, sha(fmt.Sprint(i))), Digest: sha(fmt.Sprint(i)),
				Plans: []signer.Plan{p}, DryRun: true,
			})
		}
	}
	chain := certificates("Acme Code Signing CA 4", later, later.AddDate(3, 0, 0))
	plain := plan("s1", signer.StatusPlanned, chain, later)
	plain.Scheme = envelope.SchemeX509
	older := signer.Cause{What: signer.CauseStampOlder, Certificate: "O=Acme, CN=Acme Code Signing CA 4"}
	none := signer.Cause{What: signer.CauseNoTimestamp}
	plain.Afterwards = []signer.Verdict{
		{Setting: envelope.NoTSARoot, New: true, Both: true}, {Setting: envelope.Always, OldCause: none, NewCause: none},
		{Setting: envelope.AfterCertExpiry, New: true, Both: true},
	}
	plain.Verdicts = plain.Afterwards
	stamped := plain
	stamped.Timestamped, stamped.Breaks = true, "its timestamp lies outside the validity of the new chain"
	stamped.Afterwards = []signer.Verdict{
		{Setting: envelope.NoTSARoot, New: true, Both: true}, {Setting: envelope.Always, Old: true, Both: true, NewCause: older},
		{Setting: envelope.AfterCertExpiry, Old: true, New: true, Both: true},
	}
	stamped.Verdicts = stamped.Afterwards
	inside := stamped
	inside.Breaks = ""
	inside.Afterwards = []signer.Verdict{
		{Setting: envelope.NoTSARoot, New: true, Both: true}, {Setting: envelope.Always, Old: true, New: true, Both: true},
		{Setting: envelope.AfterCertExpiry, Old: true, New: true, Both: true},
	}
	inside.Verdicts = inside.Afterwards
	legacy := plan("s4", signer.StatusSkipped, nil, ends)
	legacy.Identity, legacy.Reason = "C=DE, ST=BE, O=Acme, CN=legacy 2019", "leaf-key-differs"
	add(2639, plain)
	add(1300, stamped)
	add(31, inside)
	add(12, legacy)
	return all
}

// TestScreens compares each screen with testdata: within 100 columns, nothing unescaped, no colour where there is no terminal.
func TestReferencesInLines(t *testing.T) {
	t.Parallel()
	const d = "sha256:4f0c6f5bb1d7a3e0f0a6c1b2d3e4f5061728394a5b6c7d8e9f0a1b2c3d4e5f60"
	for _, tt := range []struct{ ref, without, short string }{
		{"h/a:1", "h/a:1", "h/a:1"},
		{"h/a:1@" + d, "h/a:1", "h/a:1@4f0c6f5bb1d7"},
		{"oci:l@" + d, "oci:l", "oci:l@4f0c6f5bb1d7"},
		{"oci:a@b:1", "oci:a@b:1", "oci:a@b:1"},
		{"h/a@sha256:zz", "h/a@sha256:zz", "h/a@sha256:zz"},
	} {
		if got := undigested(tt.ref); got != tt.without {
			t.Errorf("%s without digest is %s", tt.ref, got)
		}
		if got := abbreviated(tt.ref); got != tt.short {
			t.Errorf("%s is abbreviated as %s", tt.ref, got)
		}
	}
}

func TestScreens(t *testing.T) {
	t.Parallel()
	screens := map[string]func(w io.Writer){
		"sign": func(w io.Writer) { Sign(w, signing(), now) },
		"sign-dry-run": func(w io.Writer) {
			r := signing()
			r.DryRun, r.Written = true, 0
			r.Signatures[0].Status, r.Signatures[1].Status = "planned", "planned"
			r.Signatures[0].Signature, r.Signatures[1].Signature = "", ""
			Sign(w, r, now)
		},
		"sign-dry-run-envelopes": func(w io.Writer) {
			r := signing()
			r.Key, r.Algorithm, r.Identity, r.Chain, r.FirstToEnd, r.HoldsUntil = "plugin:com.amazonaws.signer.notation.plugin?id=release", "", "", nil, "", time.Time{}
			r.DryRun, r.Written, r.There, r.KeyCalls = true, 0, 0, 0
			r.Signatures = r.Signatures[:1]
			r.Signatures[0].Status, r.Signatures[0].Signature = "planned", ""
			Sign(w, r, now)
			SignLine(w, r, now)
		},
		"sign-again-envelopes": func(w io.Writer) {
			r := signing()
			r.Written, r.There, r.KeyCalls, r.Key = 0, 3, 1, "plugin:com.amazonaws.signer.notation.plugin?id=release"
			Sign(w, r, now)
		},
		"sign-again": func(w io.Writer) {
			r := signing()
			r.Written, r.There, r.KeyCalls, r.NoClaims, r.Claims = 0, 3, 0, true, nil
			r.Expiry = &ends
			r.FirstToEnd = "expiry"
			Sign(w, r, now)
		},
		"sign-lines": func(w io.Writer) {
			SignLine(w, signing(), now)
			r := signing()
			r.Written = 0
			SignLine(w, r, now)
			Summary(w, Counts{Items: 1400, Rejected: 1, Failed: 2, NotRun: 3, Words: []Count{{1300, "signed"}, {94, "already signed"}}})
			Summary(w, Counts{Items: 50, Failed: 50})
		},
		"verify-accepted": func(w io.Writer) { Verify(w, accepted()) },
		"verify-rejected": func(w io.Writer) { Verify(w, rejected()) },
		"verify-unsigned": func(w io.Writer) {
			r := accepted()
			r.Verdict, r.Reason, r.Signatures = trust.Rejected, "unsigned", nil
			r.Detail = "it has no signature; its linux/amd64 (" + sha("amd64").String() + ") has, which does not cover the index"
			Verify(w, r)
		},
		"verify-not-enforced": func(w io.Writer) { r := rejected(); r.Enforced, r.Scope.Enforced = false, false; Verify(w, r) },
		"verify-undetermined": func(w io.Writer) {
			r := rejected()
			r.Verdict, r.Reason, r.Detail = trust.Undetermined, "unfetched", "the registry does not answer"
			r.Signatures = []trust.Judged{{Digest: sha("s1"), Reason: "unfetched", Detail: "the registry does not answer", Unfetched: true}}
			Verify(w, r)
		},
		"verify-no-scope": func(w io.Writer) {
			r := rejected()
			r.Scope, r.Reason, r.Detail, r.Signatures = nil, "no-scope", "no scope of the policy matches harbor.acme.example/prod/app", nil
			Verify(w, r)
		},
		"verify-lines": func(w io.Writer) {
			VerifyLine(w, accepted())
			VerifyLine(w, rejected())
			Summary(w, Counts{Items: 2, Rejected: 1, Words: []Count{{1, "accepted"}, {1, "rejected"}}})
		},
		"inspect":          func(w io.Writer) { Inspect(w, inspection()) },
		"inspect-unsigned": func(w io.Writer) { in := inspection(); in.Signatures, in.Referrers = nil, nil; Inspect(w, in) },
		"tree":             func(w io.Writer) { Tree(w, tree()) },
		"copy":             func(w io.Writer) { Copy(w, copied()) },
		"copy-again": func(w io.Writer) {
			r := copied()
			r.Written, r.Bytes, r.Mounted, r.Tags, r.DigestTags, r.Objects = 0, 0, 0, nil, nil, nil
			Copy(w, r)
			CopyLine(w, r)
		},
		"copy-plan": func(w io.Writer) { CopyPlan(w, []copy.Result{planned(1)}, nil) },
		"copy-plan-batch": func(w io.Writer) {
			var all []copy.Result
			for i := range 45 {
				all = append(all, planned(i))
			}
			CopyPlan(w, all, []Failure{{Item: []string{"vendor.example/tools/shell:5.0", "x"}, Reason: "no-trusted-signature", Detail: "signed under CN=Vendor Test Root", Code: 1},
				{Item: []string{"vendor.example/db/server:latest", "x"}, Reason: "tag-moves", Text: "copy vendor.example/db/server:latest to x: the tag names another digest there: latest is " + sha("old").String() + ", not sha256:beef", Code: 1}})
		},
		"rechain": func(w io.Writer) {
			Rechain(w, rechained(signer.StatusWritten))
			RechainLine(w, rechained(signer.StatusWritten))
		},
		"rechain-plan": func(w io.Writer) { rechainPlan(w, RechainAsked{}, nil, rechained(signer.StatusPlanned)) },
		"rechain-plan-all": func(w io.Writer) {
			rechainPlan(w, RechainAsked{All: true, Replacing: certificates("Acme Code Signing CA 3", later, ends)[1:2]}, nil, rechainedAll()...)
		},
		"rechain-plan-batch": func(w io.Writer) {
			rechainPlan(w, RechainAsked{},
				[]Failure{{Item: []string{"harbor.acme.example/prod/web:2"}, Reason: "ends-earlier", Text: "rechain harbor.acme.example/prod/web:2: the new chain ends on 2026-12-01, the present one on 2027-01-03", Code: 3}}, rechained(signer.StatusPlanned), rechained(signer.StatusPlanned))
		},
		"doctor":         func(w io.Writer) { Doctor(w, diagnosis()) },
		"key-show":       keys,
		"key-csr":        requests,
		"chain-check":    checks,
		"login":          login,
		"policy-check":   func(w io.Writer) { PolicyCheck(w, PolicySummary{Summary: policy()}, now) },
		"policy-explain": explanations,
		"rechain-unchanged": func(w io.Writer) {
			r := rechained(signer.StatusThere)
			r.Plans = r.Plans[:1]
			r.Plans[0].Warnings = nil
			Rechain(w, r)
			rechainPlan(w, RechainAsked{}, nil, r)
		},
	}
	maps.Copy(screens, auditScreens())
	maps.Copy(screens, verifyScreens())
	for name, screen := range screens {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			screen(&colorprofile.Writer{Forward: &b, Profile: colorprofile.NoTTY})
			for _, l := range strings.Split(b.String(), "\n") {
				// A key URI is to be copied: it is as long as it is.
				words := strings.Fields(l)
				if Width(l) > Columns && Width(words[len(words)-1]) < Columns-2-labelWidth {
					t.Errorf("%d columns: %s", Width(l), l)
				}
				if strings.TrimRight(l, " ") != l {
					t.Errorf("blanks at the end of %q", l)
				}
			}
			for _, r := range b.String() {
				if r < ' ' && r != '\n' {
					t.Errorf("a control character %q", r)
				}
			}
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("the screen is not testdata/%s.txt (-want +got):\n%s", name, diff)
			}
		})
	}
}

func TestVerifyHints(t *testing.T) {
	t.Parallel()
	if got, want := VerifyHint(rejected()), "this digest is signed as 1.4 and 1.4.2: deploy one of those, or ask its signer"; got != want {
		t.Errorf("hint %q, want %q", got, want)
	}
	for code := range trust.Reasons() {
		if strings.HasPrefix(code, "policy-") {
			continue
		}
		if VerifyHint(trust.Report{Reference: "r.example/a:1", Reason: code}) == "" {
			t.Errorf("%s has no hint", code)
		}
	}
}

func TestEscape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain, é and 日本": "plain, é and 日本",
		"a\x1b[31mb":      `a\x1b[31mb`,
		"a\nb\r\tc":       `a\nb\r\tc`,
		"a\u202eb":        `a\u202eb`,
		"a\u200bb\u2066":  `a\u200bb\u2066`,
		"a\u00a0b":        `a\u00a0b`,
		"a\x9bb":          `a\x9bb`,
		"a\u009bb":        `a\u009bb`,
		"a\x7f\x00":       `a\u007f\x00`,
		"a\U000e0001b":    `a\U000e0001b`,
		"a\u2028b":        `a\u2028b`,
		"a\ufeffb":        `a\ufeffb`,
		"a\u3164b":        `a\u3164b`,
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestFold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in    string
		width int
		want  []string
	}{
		{"", 5, []string{""}},
		{"abcde", 5, []string{"abcde"}},
		{"abcde f", 5, []string{"abcde", "f"}},
		{"abc def ghi", 7, []string{"abc def", "ghi"}},
		{"abcdefgh", 3, []string{"abc", "def", "gh"}},
		{"a  b", 10, []string{"a  b"}},
		{"日本語", 4, []string{"日本", "語"}},
	} {
		if diff := cmp.Diff(tt.want, fold(tt.in, tt.width)); diff != "" {
			t.Errorf("fold(%q, %d) (-want +got):\n%s", tt.in, tt.width, diff)
		}
	}
}

// TestFoldHuge: a certificate's name of 60 KiB does not drown the verdict. (At quadratic cost this took a second a signature.)
func TestFoldHuge(t *testing.T) {
	t.Parallel()
	lines := fold(strings.Repeat("é", 60<<10), 40)
	if len(lines) > maxLines || !strings.HasSuffix(lines[len(lines)-1], "…") {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ got, want string }{
		{age(now, now), "just now"},
		{age(now.Add(-90*time.Second), now), "1 minute ago"},
		{age(now.Add(-3*24*time.Hour), now), "3 days ago"},
		{age(now.Add(5*time.Hour), now), "in 5 hours"},
		{left(now.Add(47*time.Hour), now), "47 hours"},
		{left(now.Add(49*time.Hour), now), "2 days"},
		{left(now.AddDate(0, 0, 364), now), "364 days"},
		{left(now.AddDate(2, 1, 0), now), "2 years"},
		{left(now.Add(-time.Hour), now), "ended 1 hour ago"},
		{left(now.Truncate(time.Second).Add(5*24*time.Hour), now.Truncate(time.Second).Add(900*time.Millisecond)), "5 days"}, // signed just now
		{left(now.Add(5*24*time.Hour-time.Minute), now), "4 days"},
		{minute(now), "2026-11-22 08:41 UTC"},
		{number(1234567), "1,234,567"},
		{number(123), "123"},
		{bytesOf(999), "999 B"},
		{bytesOf(1612), "1.6 kB"},
		{bytesOf(2_310_000_000), "2.31 GB"},
		{brief("C=DE, ST=BE, O=Acme\\, CN=evil, CN=release"), "O=Acme\\, CN=evil, CN=release"},
		{common("C=DE, O=Acme\\, CN=evil"), "C=DE, O=Acme\\, CN=evil"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}
