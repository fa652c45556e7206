package azurekms

import (
	"context"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/imprint-oci/imprint/kms"
)

// sign has the pinned version sign a digest. Names of algorithms are JOSE's (RFC 7518 section 3.1), in which PSS has a salt as long
// as the hash and ECDSA is r and s side by side.
func (v *vault) sign(ctx context.Context, r kms.SignRequest) ([]byte, error) {
	algorithm := azkeys.SignatureAlgorithm(r.Algorithm.Name)
	if r.PKCS1 {
		algorithm = azkeys.SignatureAlgorithm(strings.Replace(r.Algorithm.Name, "PS", "RS", 1))
	}
	ctx, w := watching(ctx)
	answer, err := v.keys.Sign(ctx, v.name, v.version, azkeys.SignParameters{Algorithm: &algorithm, Value: r.Digest}, nil)
	if err != nil {
		return nil, v.explain(err, w, keysSign)
	}
	id := ""
	if answer.KID != nil {
		id = string(*answer.KID)
	}
	if _, _, err := v.identify("keys", id); err != nil {
		return nil, kms.Failure(kms.CodeSignature, "", "another key signed: %w", err)
	}
	return answer.Result, nil
}
