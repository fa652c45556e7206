package revocation

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha1" // names certificates in questions
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// MaxReplyBytes limits the answer of a responder: who reads one reads no more. A usual one takes some 2 KiB.
const MaxReplyBytes = 64 << 10

var (
	oidNonce  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidSHA1   = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
)

// The wire forms of RFC 6960, 4.1.1.
type (
	certID struct {
		Hash                  pkix.AlgorithmIdentifier
		IssuerName, IssuerKey []byte
		Serial                *big.Int
	}
	ocspRequest struct {
		TBS struct {
			List       []struct{ ID certID }
			Extensions []pkix.Extension `asn1:"explicit,tag:2,optional"`
		}
	}
)

// Question encodes a question for a certificate (RFC 6960, 4.1). It is named by SHA-1, which is all that many responders know, and which nothing
// rests on: the answer is signed.
func Question(cert, issuer *x509.Certificate, nonce []byte) ([]byte, error) {
	id, err := idOf(cert, issuer, oidSHA1)
	if err != nil {
		return nil, err
	}
	value, err := asn1.Marshal(nonce)
	if err != nil {
		return nil, err
	}
	var r ocspRequest
	r.TBS.List = []struct{ ID certID }{{id}}
	r.TBS.Extensions = []pkix.Extension{{Id: oidNonce, Value: value}}
	return asn1.Marshal(r)
}

func idOf(cert, issuer *x509.Certificate, hash asn1.ObjectIdentifier) (certID, error) {
	var h crypto.Hash
	switch {
	case hash.Equal(oidSHA1):
		h = crypto.SHA1
	case hash.Equal(oidSHA256):
		h = crypto.SHA256
	case hash.Equal(oidSHA384):
		h = crypto.SHA384
	case hash.Equal(oidSHA512):
		h = crypto.SHA512
	default:
		return certID{}, fmt.Errorf("hash %v is unknown", hash)
	}
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key); err != nil {
		return certID{}, fmt.Errorf("reading the issuer's key: %w", err)
	}
	sum := func(b []byte) []byte {
		d := h.New()
		d.Write(b)
		return d.Sum(nil)
	}
	return certID{
		Hash:       pkix.AlgorithmIdentifier{Algorithm: hash, Parameters: asn1.NullRawValue},
		IssuerName: sum(issuer.RawSubject),
		IssuerKey:  sum(key.Key.RightAlign()),
		Serial:     cert.SerialNumber,
	}, nil
}

// A Reply is what a responder said of one certificate. It depends on no time but when it was produced.
type Reply struct {
	By       string // the URL of the responder, as people are shown it
	Unfit    string // why nothing; "": it is fit
	status   int    // of package ocsp
	from     time.Time
	until    time.Time
	entry    Entry
	delegate *x509.Certificate // who signed it for the issuer; nil: the issuer itself
}

// ReadReply reads an answer (RFC 6960, 4.2) to a question about cert with nonce. by is what is shown of who gave it. Who signed it is checked
// here, times are not. It never fails: whatever keeps the answer from saying anything is in Unfit.
func ReadReply(by string, b []byte, cert, issuer *x509.Certificate, nonce []byte) Reply {
	unfit := func(format string, args ...any) Reply { return Reply{By: by, Unfit: fmt.Sprintf(format, args...)} }
	// The signature is checked below: ParseResponseForCert would take any certificate of the issuer for a responder's.
	r, err := ocsp.ParseResponseForCert(b, cert, nil)
	var refused ocsp.ResponseError
	switch {
	case errors.As(err, &refused):
		return unfit("the responder answers: %v", refused.Status)
	case err != nil:
		return unfit("its answer is of no use: %v", err)
	}
	if why := signedFor(r, issuer); why != "" {
		return unfit("%s", why)
	}
	if why := answers(r, cert, issuer, nonce); why != "" {
		return unfit("%s", why)
	}
	out := Reply{By: by, status: r.Status, from: r.ThisUpdate, until: r.NextUpdate, entry: Entry{Since: r.RevokedAt, reason: r.RevocationReason}}
	if r.Certificate != nil && !r.Certificate.Equal(issuer) {
		out.delegate = r.Certificate
	}
	if value, ok := extension(r.Extensions, oidInvalidity); ok {
		if out.entry.invalid, err = parseInvalidity(value); err != nil {
			return unfit("its answer's invalidity date is malformed")
		}
	}
	return out
}

// signedFor says why an answer is not signed by who may: the issuer, or a responder that the issuer itself certified as one (RFC 6960,
// 4.2.2.2).
func signedFor(r *ocsp.Response, issuer *x509.Certificate) string {
	switch r.SignatureAlgorithm {
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.MD5WithRSA, x509.MD2WithRSA, x509.UnknownSignatureAlgorithm:
		return fmt.Sprintf("its answer is signed with %v", r.SignatureAlgorithm)
	}
	by := issuer
	if d := r.Certificate; d != nil && !d.Equal(issuer) {
		by = d
		switch {
		case !bytes.Equal(d.RawIssuer, issuer.RawSubject) || d.CheckSignatureFrom(issuer) != nil:
			return "its answer is signed by a certificate that is not of the same issuer"
		case !slices.Contains(d.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
			return "its answer is signed by a certificate that is no responder's"
		case d.KeyUsage != 0 && d.KeyUsage&x509.KeyUsageDigitalSignature == 0:
			return "its answer is signed by a certificate that may not sign"
		case weak(d) != "":
			return "its answer is signed by a certificate that " + weak(d)
		}
	}
	if err := by.CheckSignature(r.SignatureAlgorithm, r.TBSResponseData, r.Signature); err != nil {
		return "the key of the certificate's issuer did not sign its answer"
	}
	return ""
}

// weak says why the certificate of a responder is too weak; "": it is not.
func weak(cert *x509.Certificate) string {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < 2048 {
			return fmt.Sprintf("has an RSA key of %d bits", n)
		}
	case *ecdsa.PublicKey:
		if n := key.Curve.Params().BitSize; n < 256 {
			return fmt.Sprintf("has an elliptic curve key of %d bits", n)
		}
	}
	if cert.SerialNumber.Sign() <= 0 { // RFC 5280, 4.1.2.2
		return "has a serial number that is not positive"
	}
	switch cert.SignatureAlgorithm {
	case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1:
		return fmt.Sprintf("was issued with %v", cert.SignatureAlgorithm)
	}
	return ""
}

// answers says why a signed answer is none to what was asked.
func answers(r *ocsp.Response, cert, issuer *x509.Certificate, nonce []byte) string {
	var data struct {
		Version    int `asn1:"optional,default:0,explicit,tag:0"`
		Responder  asn1.RawValue
		Produced   time.Time `asn1:"generalized"`
		Responses  []asn1.RawValue
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
	if rest, err := asn1.Unmarshal(r.TBSResponseData, &data); err != nil || len(rest) > 0 {
		return "its answer is malformed"
	}
	for _, e := range data.Extensions {
		switch {
		case e.Id.Equal(oidNonce):
			// RFC 6960 has the nonce in an OCTET STRING; some answer with its bytes alone.
			var got []byte
			if rest, err := asn1.Unmarshal(e.Value, &got); err != nil || len(rest) > 0 {
				got = e.Value
			}
			if !bytes.Equal(got, nonce) {
				return "its answer is to another question: the nonce differs"
			}
		case e.Critical:
			return fmt.Sprintf("its answer has the critical extension %v, which imprint does not know", e.Id)
		}
	}
	for _, one := range data.Responses {
		var single struct {
			ID   certID
			Rest asn1.RawValue
		}
		if _, err := asn1.Unmarshal(wrap(tagSequence, leading(one.Bytes, 2)), &single); err != nil {
			return "its answer is malformed"
		}
		if single.ID.Serial.Cmp(cert.SerialNumber) != 0 {
			continue
		}
		want, err := idOf(cert, issuer, single.ID.Hash.Algorithm)
		if err != nil {
			return "its answer names certificates by a " + err.Error()
		}
		if !bytes.Equal(want.IssuerName, single.ID.IssuerName) || !bytes.Equal(want.IssuerKey, single.ID.IssuerKey) {
			return "its answer is about a certificate of another issuer"
		}
		return "" // the first one is what package ocsp took, too
	}
	return "its answer is about other certificates"
}

// leading returns the first n elements of b.
func leading(b []byte, n int) []byte {
	at := b
	for range n {
		_, _, rest, ok := der(at)
		if !ok {
			return b
		}
		at = rest
	}
	return b[:len(b)-len(at)]
}

// At rules by a reply at the time now, of what is proved to be from no later than proof; zero: nothing is proved.
func (r Reply) At(now, proof time.Time) Ruling {
	unknown := func(why string) Ruling { return Ruling{Status: Unknown, By: r.By, Why: why} }
	if r.Unfit != "" {
		return unknown(r.Unfit)
	}
	if d := r.delegate; d != nil && (now.After(d.NotAfter) || now.Before(d.NotBefore)) {
		return unknown("its answer is signed by a responder's certificate that is not valid now")
	}
	revoked := r.status == ocsp.Revoked && r.entry.counts(proof)
	why := timely(r.from, r.until, now)
	switch {
	case revoked && (why == "" || r.entry.reason != reasonHold): // for good, also if the answer is an old one
		return Ruling{Status: Revoked, By: r.By, Entry: r.entry}
	case why != "":
		return unknown(why)
	case r.status == ocsp.Unknown:
		return unknown("the responder does not know the certificate")
	}
	return Ruling{Status: Good, By: r.By, Until: r.until}
}
