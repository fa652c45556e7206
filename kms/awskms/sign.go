package awskms

import (
	"context"
	"fmt"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/imprint-oci/imprint/kms"
)

// algorithm returns what AWS calls an algorithm. The salt of its PSS is as long as the hash, and its ECDSA signatures are DER.
func algorithm(a kms.Algorithm, pkcs1 bool) types.SigningAlgorithmSpec {
	scheme := "ECDSA"
	switch {
	case pkcs1:
		scheme = "RSASSA_PKCS1_V1_5"
	case a.PSS:
		scheme = "RSASSA_PSS"
	}
	return types.SigningAlgorithmSpec(fmt.Sprintf("%s_SHA_%d", scheme, 8*a.Hash.Size()))
}

// sign returns what has the key of that ARN sign once. It always sends the digest: AWS takes messages of at most 4096 bytes.
func (s *session) sign(arn string) func(context.Context, kms.SignRequest) ([]byte, error) {
	return func(ctx context.Context, r kms.SignRequest) ([]byte, error) {
		answer, err := s.client.Sign(ctx, &sdk.SignInput{
			KeyId:            &arn,
			Message:          r.Digest,
			MessageType:      types.MessageTypeDigest,
			SigningAlgorithm: algorithm(r.Algorithm, r.PKCS1),
		})
		if err != nil {
			return nil, s.explain(ctx, err, "kms:Sign", arn)
		}
		return answer.Signature, nil
	}
}
