package azurekms

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/imprint-oci/imprint/kms"
)

// certificates reads what the vault keeps under the key's name and version. A key that no certificate was made of has none, and
// who may sign need not be allowed to read one, so without ?chain both mean that there is none.
func (v *vault) certificates(ctx context.Context) ([]*x509.Certificate, error) {
	if v.chain == "secret" {
		return v.secret(ctx)
	}
	leaf, err := v.leaf(ctx)
	var e *kms.Error
	if v.chain == "" && errors.As(err, &e) && (e.Code == kms.CodeDenied || e.Code == kms.CodeNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{leaf}, nil
}

// leaf reads the certificate object, which holds the leaf alone. The service has been seen to answer for a version that is not there
// with the newest one, so all of what it says it is gets compared.
func (v *vault) leaf(ctx context.Context) (*x509.Certificate, error) {
	ctx, w := watching(ctx)
	var raw *http.Response
	asked := policy.WithCaptureResponse(context.WithValue(ctx, collection{}, "certificates"), &raw)
	if _, err := v.keys.GetKey(asked, v.name, v.version, nil); err != nil {
		return nil, v.explain(err, w, certificatesGet)
	}
	var object struct {
		ID  string
		KID string
		CER []byte
	}
	b, err := runtime.Payload(raw)
	if err == nil {
		err = json.Unmarshal(b, &object)
	}
	if err != nil {
		return nil, kms.Service("the certificate object of %s cannot be read", v.host)
	}
	if _, _, err := v.identify("certificates", object.ID); err != nil {
		return nil, err
	}
	if _, _, err := v.identify("keys", object.KID); err != nil {
		return nil, fmt.Errorf("the certificate is of another key: %w", err)
	}
	leaf, err := x509.ParseCertificate(object.CER)
	if err != nil {
		return nil, kms.Service("the certificate object of %s holds no certificate", v.label())
	}
	if !kms.SameKey(leaf.PublicKey, v.public) {
		return nil, kms.Service("the certificate object of %s holds a certificate of another key", v.label())
	}
	return leaf, nil
}

// secret reads the chain from the secret behind a certificate. If the key is exportable, its private key comes along: it is skipped,
// and wiped where it can be.
func (v *vault) secret(ctx context.Context) ([]*x509.Certificate, error) {
	ctx, w := watching(ctx)
	var raw *http.Response
	asked := policy.WithCaptureResponse(ctx, &raw)
	as := azsecrets.ContentTypePEM
	answer, err := v.secrets.GetSecret(asked, v.name, v.version, &azsecrets.GetSecretOptions{OutContentType: &as})
	var refused *azcore.ResponseError
	if errors.As(err, &refused) && refused.StatusCode == http.StatusBadRequest { // a service that does not convert
		answer, err = v.secrets.GetSecret(asked, v.name, v.version, nil)
	}
	if raw != nil {
		if b, err := runtime.Payload(raw); err == nil {
			defer clear(b)
		}
	}
	if err != nil {
		return nil, v.explain(err, w, secretsGet)
	}
	id := ""
	if answer.ID != nil {
		id = string(*answer.ID)
	}
	if _, _, err := v.identify("secrets", id); err != nil {
		return nil, err
	}
	if answer.Value == nil {
		return nil, kms.Service("the secret %s is empty", v.label())
	}
	text := []byte(*answer.Value)
	answer.Value = nil
	defer clear(text)
	certs, private, err := chainOf(text)
	if (private || err != nil) && v.warn != nil {
		v.warned.Do(func() {
			v.warn(fmt.Sprintf("the secret %s in %s hands its readers the private key, which has now passed through this machine: "+
				"make the key not exportable, or leave ?chain=secret out and use --chain", v.label(), v.host))
		})
	}
	if err != nil {
		return nil, kms.Failure(kms.CodeService, "write the chain into a file and use --chain: `az keyvault secret download "+v.named()+
			" --encoding base64 --file c.pfx && openssl pkcs12 -in c.pfx -nokeys -out chain.pem`", "the secret %s in %s: %w", v.label(), v.host, err)
	}
	return certs, nil
}

// chainOf reads the certificates of a PEM text and reports whether there was anything else in it.
func chainOf(text []byte) (certs []*x509.Certificate, private bool, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			clear(block.Bytes)
			private = true
			continue
		}
		if len(certs) == kms.MaxCertificates {
			return nil, private, fmt.Errorf("it has more than %d certificates", kms.MaxCertificates)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, private, errors.New("it holds a certificate that is none")
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, private, errors.New("it is no PEM text with certificates")
	}
	return certs, private, nil
}
