package envelope

import (
	"context"
	"crypto/x509"

	"github.com/notaryproject/tspclient-go"
)

// TimestampBelow reports whether one of certs, or an authority below one of them, made c's timestamp: the token is for this signature,
// and the chain of the certificate that signed it leads, at the time it states, to a certificate byte-equal to one of certs. Unlike
// for [Content.VerifyTimestamp] that one need not be a root: tokens seldom carry theirs. So two tokens can be told to be of one
// authority, and one that anybody attached from none; whether that authority is trusted is another question.
func (c Content) TimestampBelow(certs []*x509.Certificate) bool {
	from, to, ok, err := c.TimestampRange()
	if err != nil || !ok || len(certs) == 0 || len(c.Timestamp) > MaxTimestamp {
		return false
	}
	signed, err := tspclient.ParseSignedToken(c.Timestamp)
	if err != nil || len(signed.SignerInfos) != 1 {
		return false // of several signers one may be anybody
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	_, err = signed.Verify(context.Background(), x509.VerifyOptions{Roots: pool, CurrentTime: from.Add(to.Sub(from) / 2)})
	return err == nil
}
