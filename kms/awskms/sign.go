package awskms

import (
	"context"
	"fmt"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/imprint-oci/imprint/kms"
)

// algorithm returns what AWS calls an algorithm. The salt of its PSS is as long as the hash, and its ECDSA signatures are DER.
func algorithm(a kms.Algorithm) types.SigningAlgorithmSpec {
	if a.PSS {
		return named("RSASSA_PSS", a)
	}
	return named("ECDSA", a)
}

// algorithmPKCS1 is algorithm for certificate requests of RSA keys.
func algorithmPKCS1(a kms.Algorithm) types.SigningAlgorithmSpec { return named("RSASSA_PKCS1_V1_5", a) }

func named(scheme string, a kms.Algorithm) types.SigningAlgorithmSpec {
	return types.SigningAlgorithmSpec(fmt.Sprintf("%s_SHA_%d", scheme, 8*a.Hash.Size()))
}

// sign returns what has the key of that ARN sign once. It always sends the digest: AWS takes messages of at most 4096 bytes.
func (s *session) sign(arn string) func(context.Context, kms.SignRequest) ([]byte, error) {
	return func(ctx context.Context, r kms.SignRequest) ([]byte, error) {
		by := algorithm(r.Algorithm)
		if r.PKCS1 {
			by = algorithmPKCS1(r.Algorithm)
		}
		answer, err := s.client.Sign(ctx, &sdk.SignInput{
			KeyId:            &arn,
			Message:          r.Digest,
			MessageType:      types.MessageTypeDigest,
			SigningAlgorithm: by,
		})
		if err != nil {
			return nil, s.explain(ctx, err, "kms:Sign", arn)
		}
		return answer.Signature, nil
	}
}
