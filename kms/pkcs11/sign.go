package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"slices"

	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/pkcs11/cryptoki"
)

// digestInfo begins a DigestInfo (RFC 8017 section 9.2, note 1), which CKM_RSA_PKCS wants made for it.
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// pssHashes are the hash and the mask generation function of each hash.
var pssHashes = map[crypto.Hash][2]uint{
	crypto.SHA256: {cryptoki.MechSHA256, cryptoki.MGF1SHA256},
	crypto.SHA384: {cryptoki.MechSHA384, cryptoki.MGF1SHA384},
	crypto.SHA512: {cryptoki.MechSHA512, cryptoki.MGF1SHA512},
}

// sign is the Sign of a [kms.Remote]. It cannot be interrupted: a module has no way to say so.
func (k *key) sign(ctx context.Context, r kms.SignRequest) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	defer k.token.alone()()
	s, err := k.token.session()
	if err != nil {
		return nil, refused(err)
	}
	sig, err := k.signIn(ctx, s, r)
	k.token.done(s, err)
	if err != nil {
		return nil, refused(err)
	}
	return sig, nil
}

func (k *key) signIn(ctx context.Context, s *cryptoki.Session, r kms.SignRequest) ([]byte, error) {
	p := &pin{from: k.token.pins}
	defer p.wipe()
	if err := k.token.login(ctx, s, p); err != nil {
		return nil, err
	}
	private, err := k.private(s)
	if err != nil {
		return nil, err
	}
	always, err := s.Attribute(private, cryptoki.AttrAlwaysAuthenticate)
	if err != nil {
		return nil, err
	}
	mech, pss, data := mechanism(r)
	if err := s.SignInit(private, mech, pss); err != nil {
		return nil, err
	}
	if len(always) == 1 && always[0] != 0 {
		if err := k.token.confirm(ctx, s, p); err != nil {
			return nil, err
		}
	}
	sig, err := s.Sign(data)
	if err != nil {
		return nil, err
	}
	if pub, ok := k.public.(*ecdsa.PublicKey); ok {
		sig = widened(pub, sig)
	}
	return sig, nil
}

// mechanism returns how a digest is signed.
func mechanism(r kms.SignRequest) (mech uint, pss *cryptoki.PSS, data []byte) {
	hash := r.Algorithm.Hash
	switch {
	case r.PKCS1:
		return cryptoki.MechRSAPKCS, nil, slices.Concat(digestInfo[hash], r.Digest)
	case r.Algorithm.PSS:
		return cryptoki.MechRSAPKCSPSS, &cryptoki.PSS{Hash: pssHashes[hash][0], MGF: pssHashes[hash][1], Salt: uint(hash.Size())}, r.Digest
	}
	return cryptoki.MechECDSA, nil, r.Digest
}

// private finds the private key, of which there must be one.
func (k *key) private(s *cryptoki.Session) (cryptoki.Object, error) {
	found, err := s.Find(k.beside(cryptoki.ClassPrivateKey)...)
	if err != nil {
		return 0, err
	}
	switch {
	case k.object.class == cryptoki.ClassPrivateKey && slices.Contains(found, k.object.handle):
		return k.object.handle, nil
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return 0, problem(kms.CodeNotFound, "sign with the token that has the private key", "the token %s has no private key %s, only what belongs to it",
			k.token.name(), k.object.name())
	}
	return 0, problem(kms.CodeNotFound, "name one: give each key an id of its own", "the token %s has %d private keys %s", k.token.name(), len(found), k.object.name())
}

// widened writes r and s as wide as the curve's order: some modules cut their leading zeros off, in both alike.
func widened(pub *ecdsa.PublicKey, sig []byte) []byte {
	width := (pub.Curve.Params().N.BitLen() + 7) / 8
	half := len(sig) / 2
	if len(sig)%2 != 0 || half == 0 || half >= width {
		return sig
	}
	wide := make([]byte, 2*width)
	copy(wide[width-half:], sig[:half])
	copy(wide[2*width-half:], sig[half:])
	return wide
}
