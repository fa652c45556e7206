package audit

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain"
)

const (
	codeExpired    = "all-ended"
	codeUnsigned   = "artifact-unsigned"
	codeNoneValid  = "no-valid-signature"
	codePlatform   = "platform-unsigned"
	codeMovedBack  = "tag-moved-back"
	codeUnclaimed  = "tag-unclaimed"
	codeGhost      = "signature-ghost"
	codeBad        = "signature-bad"
	codeWeak       = "algorithm-weak"
	codeTwice      = "claimed-twice"
	codeEnded      = "signature-ended"
	codeFaint      = "timestamp-useless"
	codeOld        = "algorithm-deprecated"
	codeSuperseded = "signature-superseded"
	codeDuplicate  = "signature-twice"
	codeSeveral    = "several-identities"
	codeOrphan     = "subject-gone"
)

// A FindingKind is what findings of one code have in common.
type FindingKind struct {
	Code     string
	Severity Severity
	Title    string
	Meaning  string // one sentence
}

// FindingKinds lists them, what weighs most first.
func FindingKinds() []FindingKind {
	return []FindingKind{
		{codeExpired, Problem, "every signature has ended", "Each signature that counts has ended: by a certificate of its chain, by its timestamp's authority, or by its own expiry."},
		{codeNoneValid, Problem, "no signature verifies", "The artifact has signatures, and none of them is its leaf certificate's over this artifact."},
		{codePlatform, Problem, "platform image unsigned under a signed index", "The index is signed, and a platform image in it is not: who pulls that image by its own digest finds no signature."},
		{codeMovedBack, Problem, "tag that moved to an older signature", "What the tag names was signed for it before another artifact was, by the same signer: the tag went back."},
		{codeUnclaimed, Problem, "tag that no signature claims", "The repository's signatures claim tags, and none of this artifact's claims the tag that names it."},
		{codeUnsigned, Problem, "unsigned", "A tag names the artifact, and nothing that is listed is a signature of it."},
		{codeGhost, Problem, "signature listed that is not there", "The list of referrers names a signature manifest that the registry does not have; stock verifiers reject the whole artifact for it."},
		{codeBad, Problem, "signature that is not good", "A listed signature cannot be read, does not verify, or signs another artifact; its reason code says which."},
		{codeWeak, Problem, "broken algorithm", "A certificate has an RSA key of less than 2048 bits or a curve of less than 256, or was issued with SHA-1 or MD5 (NIST SP 800-131A Rev. 2: disallowed)."},
		{codeEnded, Note, "signature that has ended beside others that hold", "A signature that counts has ended, and another of the same artifact holds."},
		{codeFaint, Note, "timestamp that helps no verifier", "The timestamp, or the authentic signing time, does not lie inside the chain or is not of the TSA roots given, and no other copy of the signature has a better one."},
		{codeTwice, Note, "tag claimed for several artifacts by one signer", "The same signer claims the tag for more than one artifact: the tag can be turned back to an older one, and is still covered."},
		{codeOld, Note, "deprecated algorithm", "A certificate has an RSA key of less than 3072 bits: the CA/Browser Forum's code signing requirements (6.1.5) ask for 3072 since June 2021, and NIST IR 8547 deprecates it after 2030."},
		{codeSeveral, Note, "signed by several identities", "The signatures that count are by more than one subject, or under more than one root."},
		{codeSuperseded, Note, "superseded signatures, which prune would delete", "The same signature is there with a chain that lasts longer."},
		{codeDuplicate, Note, "signature that is there twice", "The same signature with the same chain and timestamp is there as another manifest."},
		{codeOrphan, Note, "signature or other referrer of what is not there", "Something refers to an artifact that the registry does not have."},
	}
}

func kindOf(code string) FindingKind {
	kinds := FindingKinds()
	return kinds[slices.IndexFunc(kinds, func(k FindingKind) bool { return k.Code == code })]
}

// find adds a finding to the artifact.
func (a *Artifact) find(code string, f Finding, format string, args ...any) {
	f.Code, f.Severity, f.Text = code, kindOf(code).Severity, fmt.Sprintf(format, args...)
	a.Findings = append(a.Findings, f)
}

// judge notes what is odd about the signatures of an artifact by themselves.
func (a *Artifact) judge(marks []*mark, now time.Time) {
	for _, m := range marks {
		a.judgeMark(m, marks)
	}
	var current, ended []*mark
	signers := map[string]bool{}
	var names []string
	for _, m := range marks {
		if m.State != StateCurrent {
			continue
		}
		current = append(current, m)
		if len(m.endings) > 0 && m.endings[0].over(now) {
			ended = append(ended, m)
		}
		if signer := m.Identity + "\x00" + m.Chain[len(m.Chain)-1]; !signers[signer] {
			signers[signer] = true
			names = append(names, m.Identity)
		}
	}
	switch {
	case len(ended) == 0:
	case len(ended) == len(current):
		last := slices.MaxFunc(ended, func(a, b *mark) int { return a.Ends.Compare(*b.Ends) })
		a.find(codeExpired, Finding{Signature: last.Digest}, "every signature has ended, the last one on %s", minute(*last.Ends))
	default:
		for _, m := range ended {
			a.find(codeEnded, Finding{Signature: m.Digest}, "signature %s ended on %s; another one holds", short(m.Digest), minute(*m.Ends))
		}
	}
	if len(names) > 1 {
		slices.Sort(names)
		a.find(codeSeveral, Finding{}, "signed by %s", several(names))
	}
}

func several(names []string) string {
	distinct := slices.Compact(slices.Clone(names))
	if len(distinct) == 1 {
		return fmt.Sprintf("%s under %d roots", names[0], len(names))
	}
	return list(distinct)
}

func (a *Artifact) judgeMark(m *mark, marks []*mark) {
	by := Finding{Signature: m.Digest}
	if m.By != "" {
		by.Others = []digest.Digest{m.By}
	}
	switch {
	case m.Reason == codeGhost:
		a.find(codeGhost, by, "signature %s is listed and is not there", short(m.Digest))
	case m.State == StateBad:
		a.find(codeBad, by, "signature %s: %s (%s)", short(m.Digest), m.Detail, m.Reason)
	case m.State == StateSuperseded:
		a.find(codeSuperseded, by, "signature %s is superseded by %s", short(m.Digest), short(m.By))
	case m.State == StateDuplicate:
		a.find(codeDuplicate, by, "signature %s is %s again", short(m.Digest), short(m.By))
	case m.State == StateCurrent && m.faint != "" && !slices.ContainsFunc(marks, func(o *mark) bool {
		return o != m && o.good() && o.Core == m.Core && o.faint == "" && o.stamped()
	}):
		a.find(codeFaint, by, "signature %s: %s", short(m.Digest), m.faint)
	}
	if m.State == StateSuperseded || m.State == StateDuplicate || m.State == StateReplaced {
		return
	}
	weak, old := m.algorithms()
	if len(weak) > 0 {
		a.find(codeWeak, by, "signature %s: %s", short(m.Digest), list(weak))
	}
	if len(old) > 0 {
		a.find(codeOld, by, "signature %s: %s", short(m.Digest), list(old))
	}
}

// algorithms says what is weak in the certificates of m and its timestamp.
func (m *mark) algorithms() (weak, old []string) {
	certs := slices.Concat([]*x509.Certificate(m.content.Chain), m.annex)
	for i, cert := range certs {
		name := certchain.NameOf(cert.RawSubject)
		root := i == len(m.content.Chain)-1 // which is trusted for being itself, whatever it signed itself with
		switch why := broken(cert, root); {
		case why != "":
			weak = append(weak, name+" "+why)
		case rsaBits(cert) > 0 && rsaBits(cert) < 3072:
			old = append(old, fmt.Sprintf("%s has an RSA key of %d bits", name, rsaBits(cert)))
		}
	}
	return weak, old
}

func rsaBits(cert *x509.Certificate) int {
	if key, ok := cert.PublicKey.(*rsa.PublicKey); ok {
		return key.N.BitLen()
	}
	return 0
}

func broken(cert *x509.Certificate, root bool) string {
	if n := rsaBits(cert); n > 0 && n < 2048 {
		return fmt.Sprintf("has an RSA key of %d bits", n)
	}
	if key, ok := cert.PublicKey.(*ecdsa.PublicKey); ok && key.Curve.Params().BitSize < 256 {
		return fmt.Sprintf("has an elliptic curve key of %d bits", key.Curve.Params().BitSize)
	}
	if root {
		return ""
	}
	switch cert.SignatureAlgorithm {
	case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1:
		return fmt.Sprintf("was issued with %v", cert.SignatureAlgorithm)
	}
	return ""
}

// short is the beginning of a digest, as people compare them.
func short(d digest.Digest) string {
	_, hex, ok := strings.Cut(string(d), ":")
	if !ok || len(hex) < 12 {
		return string(d)
	}
	return hex[:12]
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") + " UTC" }

// list joins words as people do: a, b and c.
func list(words []string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
	return strings.Join(words, "")
}
