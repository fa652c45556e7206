package signer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/notaryproject/tspclient-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// An objection is why one signature does not make another needless. The reasons that say most have the highest rank.
type objection struct {
	code, why string
	rank      int
}

// replaces says why a does not make b needless; the zero objection if it does.
func (a *prunable) replaces(b *prunable, o PruneOptions) objection {
	if !a.content.Supersedes(*b.content) {
		return objection{code: codeNewest}
	}
	if a.hidden || !a.shape.seenAs(b.shape) {
		return objection{codeHidden, fmt.Sprintf("%s supersedes it, but is listed or written in a form that some stock verifiers pass over", a.Signature), 1}
	}
	if why := a.reachedFrom(b); why != "" {
		return objection{codeHidden, fmt.Sprintf("%s supersedes it, but %s", a.Signature, why), 1}
	}
	// Our own verifier is stricter than stock ones about chains.
	if err := a.content.Chain.Check(time.Time{}); err != nil && b.content.Chain.Check(time.Time{}) == nil {
		return objection{codeNeeded, fmt.Sprintf("imprint verify refuses the chain of %s, which supersedes it: %v", a.Signature, err), 2}
	}
	if why := a.passesWith(b, o.Now, o.TimestampRoots); why != "" {
		return objection{codeNeeded, fmt.Sprintf("%s supersedes it, but %s", a.Signature, why), 3}
	}
	if ok, why := a.accepted(o); !ok {
		return objection{codeRejected, fmt.Sprintf("the policy does not accept %s, which supersedes it: %s", a.Signature, why), 4}
	}
	return objection{}
}

// stockAttempts is how many signatures notation looks at unless it is told otherwise.
const stockAttempts = 100

// reachedFrom says why a verifier that goes through the list, and stops at b, would not come to a; "" if it would. Anybody may put something
// between the two.
func (a *prunable) reachedFrom(b *prunable) string {
	switch {
	case a.place < b.place:
	case a.stops > b.stops:
		return "stands in the list behind something that cannot be read, and stock verifiers give up there"
	case a.place >= stockAttempts:
		return fmt.Sprintf("stands in the list behind more than the %d signatures that stock verifiers look at", stockAttempts)
	}
	return ""
}

// accepted asks the policy, once.
func (a *prunable) accepted(o PruneOptions) (ok bool, why string) {
	if o.Accept == nil {
		return true, ""
	}
	if !a.asked {
		a.asked = true
		if ok, why := o.Accept(a.sig); !ok {
			a.rejected = cmp.Or(why, "rejected")
		}
	}
	return a.rejected == "", a.rejected
}

// passesWith says at which setting and time b passes, from now on, and a does not, or only by a timestamp that need not be believed by
// who believes b's; "" if there is none.
func (a *prunable) passesWith(b *prunable, now time.Time, given []*x509.Certificate) string {
	believed, asked := false, false
	for _, at := range turningPoints(now, *a.content, *b.content) {
		for _, s := range envelope.Settings() {
			if ok, _ := passes(*b.content, s, at); !ok {
				continue
			}
			who := fmt.Sprintf("verifiers of the setting %s accept this one", s)
			if at.After(now) {
				who += " on " + stamp(at)
			}
			if ok, why := passes(*a.content, s, at); !ok {
				return fmt.Sprintf("%s and would refuse that: %s", who, why)
			}
			if !byTimestamp(*a.content, s, at) {
				continue
			}
			if !byTimestamp(*b.content, s, at) {
				return who + " without its timestamp, and that one only by its timestamp"
			}
			if !asked {
				asked, believed = true, asCredible(*a.content, *b.content, now, given)
			}
			if !believed {
				return who + " by its timestamp, and nothing shows that they believe the other one's"
			}
		}
	}
	return ""
}

// turningPoints are times from now on between which no verifier changes its mind about either: now, each boundary that lies
// ahead, and the moment after.
func turningPoints(now time.Time, contents ...envelope.Content) []time.Time {
	var boundaries []time.Time
	for _, c := range contents {
		if !c.Expiry.IsZero() {
			boundaries = append(boundaries, c.Expiry)
		}
		for _, cert := range c.Chain {
			boundaries = append(boundaries, cert.NotBefore, cert.NotAfter)
		}
	}
	points := []time.Time{now}
	for _, b := range boundaries {
		for _, at := range []time.Time{b, b.Add(1)} {
			if at.After(now) {
				points = append(points, at)
			}
		}
	}
	slices.SortFunc(points, time.Time.Compare)
	return slices.CompactFunc(points, time.Time.Equal)
}

// byTimestamp reports whether a verifier of setting s goes by c's timestamp at that time.
func byTimestamp(c envelope.Content, s envelope.Setting, at time.Time) bool {
	if c.Scheme == envelope.SchemeSigningAuthority || s == envelope.NoTSARoot {
		return false
	}
	return s == envelope.Always || slices.ContainsFunc(c.Chain, func(cert *x509.Certificate) bool { return at.After(cert.NotAfter) })
}

// passesSomewhere returns a setting at which c passes at a time.
func passesSomewhere(c envelope.Content, at time.Time) (envelope.Setting, bool) {
	for _, s := range envelope.Settings() {
		if ok, _ := passes(c, s, at); ok {
			return s, true
		}
	}
	return "", false
}

// A manifestShape is what stock verifiers know a signature manifest by. Not each of them sees each: released versions of notation
// see in a layout only those of the legacy form.
type manifestShape struct{ mediaType, artifactType, config string }

func shapeOfManifest(m registry.Manifest) manifestShape {
	var body struct {
		ArtifactType string `json:"artifactType"`
		Config       struct {
			MediaType string `json:"mediaType"`
		} `json:"config"`
	}
	if json.Unmarshal(m.Bytes, &body) != nil {
		return manifestShape{}
	}
	return manifestShape{m.Descriptor.MediaType, body.ArtifactType, body.Config.MediaType}
}

// seenAs reports whether who sees a manifest of shape o sees one of shape m.
func (m manifestShape) seenAs(o manifestShape) bool {
	return m == o || m == manifestShape{ocispec.MediaTypeImageManifest, "", registry.ArtifactTypeSignature}
}

// worstAccuracy is how inexact a timestamp may be for imprint's own verifier.
const worstAccuracy = time.Minute

// asCredible reports whether whoever believes b's timestamp believes a's.
func asCredible(a, b envelope.Content, now time.Time, given []*x509.Certificate) bool {
	if bytes.Equal(a.Timestamp, b.Timestamp) && bytes.Equal(a.Signature, b.Signature) {
		return true
	}
	from, to, ok, err := a.TimestampRange()
	if err != nil || !ok || to.After(now) {
		return false // our own verifier wants no timestamp of the future
	}
	if bFrom, bTo, ok, err := b.TimestampRange(); err != nil || !ok || to.Sub(from)/2 > worstAccuracy && bTo.Sub(bFrom)/2 <= worstAccuracy {
		return false
	}
	first, err := readToken(a)
	if err != nil {
		return false
	}
	second, err := readToken(b)
	if err != nil {
		return false
	}
	roots, ok := first.rootsWith(second, given)
	if !ok {
		return false
	}
	var proved []*x509.Certificate // in chains that were verified
	for _, root := range roots {
		if _, err := b.VerifyTimestamp([]*x509.Certificate{root}); err != nil {
			continue
		}
		s, err := a.VerifyTimestamp([]*x509.Certificate{root})
		if err != nil {
			return false
		}
		proved = append(proved, s.Chain...)
	}
	return first.sameAuthority(second) || len(proved) > 0 && first.within(second, proved, roots)
}

// A stampToken is a timestamp with the certificates that it carries. Those are not signed: anybody may take some out or put some in.
type stampToken struct {
	token  *tspclient.SignedToken
	signer *x509.Certificate
	others []*x509.Certificate
	at     time.Time
}

func readToken(c envelope.Content) (*stampToken, error) {
	from, to, ok, err := c.TimestampRange()
	if err != nil || !ok {
		return nil, fmt.Errorf("there is no timestamp: %w", err)
	}
	t := &stampToken{at: from.Add(to.Sub(from) / 2)}
	if t.token, err = tspclient.ParseSignedToken(c.Timestamp); err != nil {
		return nil, err
	}
	if len(t.token.SignerInfos) != 1 {
		return nil, fmt.Errorf("a timestamp with %d signers", len(t.token.SignerInfos))
	}
	if t.signer, err = t.token.SigningCertificate(&t.token.SignerInfos[0]); err != nil {
		return nil, err
	}
	for _, cert := range t.token.Certificates {
		if !cert.Equal(t.signer) && !contains(t.others, cert) {
			t.others = append(t.others, cert)
		}
	}
	return t, nil
}

// sameAuthority reports whether t is signed by a certificate that is as good as o's: the same, or one of the same issuer and for the
// same purpose; and carries the same certificates, valid at its time as they were at o's. So each chain that a verifier finds for o, to
// whatever root, it finds for t. (The root itself, which the token may not carry, is taken to last as long as what it issued.)
func (t *stampToken) sameAuthority(o *stampToken) bool {
	if !sameCertificates(t.others, o.others) {
		return false
	}
	for _, cert := range o.others {
		if validAt(cert, o.at) && !validAt(cert, t.at) {
			return false
		}
	}
	if !t.signer.Equal(o.signer) && !t.sisterOf(o) {
		return false
	}
	// Its own certificate for the root: so the token's signature and its purpose are verified, and the rest is as in o.
	_, err := t.upTo(t.signer)
	return err == nil
}

// upTo verifies the token and a chain of the certificates in it up to cert, as if that were a root.
func (t *stampToken) upTo(cert *x509.Certificate) ([]*x509.Certificate, error) {
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return t.token.Verify(context.Background(), x509.VerifyOptions{Roots: pool, CurrentTime: t.at})
}

// sisterOf reports whether the certificates that signed two tokens are of the same issuer, which both carry, and alike in all that
// verifiers look at.
func (t *stampToken) sisterOf(o *stampToken) bool {
	a, b := t.signer, o.signer
	alike := bytes.Equal(a.RawIssuer, b.RawIssuer) && bytes.Equal(a.AuthorityKeyId, b.AuthorityKeyId) &&
		a.SignatureAlgorithm == b.SignatureAlgorithm && a.PublicKeyAlgorithm == b.PublicKeyAlgorithm && keyBits(a) == keyBits(b) &&
		a.KeyUsage == b.KeyUsage && a.IsCA == b.IsCA && a.BasicConstraintsValid == b.BasicConstraintsValid && sameKinds(a, b) &&
		len(a.UnhandledCriticalExtensions) == 0
	if !alike {
		return false
	}
	issuers := 0
	for _, cert := range o.others {
		if b.CheckSignatureFrom(cert) != nil {
			continue
		}
		if a.CheckSignatureFrom(cert) != nil {
			return false
		}
		issuers++
	}
	return issuers > 0
}

// sameKinds reports whether two certificates have the same kinds of extensions, each as critical, and the same purposes.
func sameKinds(a, b *x509.Certificate) bool {
	if len(a.Extensions) != len(b.Extensions) || !slices.Equal(a.ExtKeyUsage, b.ExtKeyUsage) || len(a.UnknownExtKeyUsage)+len(b.UnknownExtKeyUsage) > 0 {
		return false
	}
	for i := range a.Extensions {
		if !a.Extensions[i].Id.Equal(b.Extensions[i].Id) || a.Extensions[i].Critical != b.Extensions[i].Critical {
			return false
		}
	}
	return true
}

// within reports whether t, for which chains to roots were proved, holds nothing strange, and leads wherever o may lead to a root that
// is not known here.
func (t *stampToken) within(o *stampToken, proved, roots []*x509.Certificate) bool {
	for _, cert := range t.others {
		if !contains(proved, cert) && !contains(o.others, cert) && !contains(roots, cert) {
			return false
		}
	}
	for _, cert := range o.others {
		issued := func(by *x509.Certificate) bool { return !by.Equal(cert) && cert.CheckSignatureFrom(by) == nil }
		if contains(roots, cert) || slices.ContainsFunc(o.others, issued) || slices.ContainsFunc(roots, issued) {
			continue
		}
		was, err := o.upTo(cert)
		if err != nil {
			return false
		}
		is, err := t.upTo(cert)
		if err != nil || len(is) > len(was) || !contains(t.others, cert) {
			return false
		}
	}
	return true
}

// rootsWith are those given and those that the two tokens carry: a root proves nothing here, the tokens are compared by it. ok is false
// if there are too many.
func (t *stampToken) rootsWith(o *stampToken, given []*x509.Certificate) (roots []*x509.Certificate, ok bool) {
	if len(t.others)+len(o.others) > maxStampCertificates {
		return nil, false
	}
	for _, cert := range slices.Concat(given, t.others, o.others) {
		if !contains(roots, cert) && bytes.Equal(cert.RawIssuer, cert.RawSubject) && cert.CheckSignatureFrom(cert) == nil {
			roots = append(roots, cert)
		}
	}
	return roots, true
}

// maxStampCertificates bounds the work that junk in timestamps can make.
const maxStampCertificates = 64

func sameCertificates(a, b []*x509.Certificate) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(cert *x509.Certificate) bool { return !contains(b, cert) })
}

func validAt(cert *x509.Certificate, at time.Time) bool {
	return !at.Before(cert.NotBefore) && !at.After(cert.NotAfter)
}

func keyBits(cert *x509.Certificate) int {
	switch k := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen()
	case *ecdsa.PublicKey:
		return k.Params().BitSize
	}
	return 0
}
