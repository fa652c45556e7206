package envelope

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain"
)

// A Content is what an envelope says.
type Content struct {
	Format        Format
	Algorithm     string // PS256 … ES512
	Scheme        string
	Payload       Payload
	SigningTime   time.Time // of scheme notary.x509
	AuthenticTime time.Time // of scheme notary.x509.signingAuthority
	Expiry        time.Time // zero: none
	Agent         string    // unsigned
	Extended      []string  // names of further protected attributes, none critical
	Chain         certchain.Chain
	Timestamp     []byte // RFC 3161 token, unsigned; nil if there is none
	core          digest.Digest
	// Protected, Signed and Signature are the exact bytes: decoded protected header, payload, primitive signature.
	Protected, Signed, Signature []byte
}

func (c *Content) take(a attributes) {
	c.Algorithm = a.algorithm
	c.Scheme = a.scheme
	c.SigningTime = a.signingTime
	c.AuthenticTime = a.authenticTime
	c.Expiry = a.expiry
	c.Extended = a.extended
}

// CoreID identifies the signature whatever chain, timestamp or (r,s) form it carries (docs/signature.md, "The core id"). It is
// empty unless the content came out of Verify.
func (c Content) CoreID() digest.Digest { return c.core }

// coreID covers the leaf's SPKI, the protected header and the payload, each preceded by its length.
func coreID(c Content) digest.Digest {
	h := sha256.New()
	for _, part := range [][]byte{c.Chain.Leaf().RawSubjectPublicKeyInfo, c.Protected, c.Signed} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write(part)
	}
	return digest.NewDigest(digest.SHA256, h)
}

// SignedAt returns SigningTime or AuthenticTime.
func (c Content) SignedAt() time.Time {
	if c.Scheme == SchemeSigningAuthority {
		return c.AuthenticTime
	}
	return c.SigningTime
}

// Supersedes reports whether c makes o needless: both verified, same core id, same leaf subject, byte-equal last
// certificates, and c's chain ends strictly later. Anyone can make a chain for a public key
// under a root of his own, so another root never supersedes.
func (c Content) Supersedes(o Content) bool {
	if c.core == "" || c.core != o.core {
		return false
	}
	if !certchain.SameName(c.Chain.Leaf().RawSubject, o.Chain.Leaf().RawSubject) || !bytes.Equal(c.Chain.Root().Raw, o.Chain.Root().Raw) {
		return false
	}
	_, mine := c.Chain.HoldsUntil()
	_, others := o.Chain.HoldsUntil()
	return mine.After(others)
}
