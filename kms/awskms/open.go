// Package awskms opens keys of AWS KMS.
//
// It makes one call to open a key (kms:GetPublicKey) and one for each signature (kms:Sign), so these two permissions are all
// that it needs. Credentials, proxies, CA bundles and endpoints come from where every program that uses AWS takes them: the
// AWS_ variables and the files below ~/.aws.
package awskms

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/imprint-oci/imprint/kms"
)

// service is its name to people.
const service = "AWS KMS"

// usable ends every refusal of a key that is something else.
const usable = "Notary Project signatures need the key usage SIGN_VERIFY and the key spec " +
	"RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384 or ECC_NIST_P521"

// keyARN is the name of a key that never comes to mean another one, with the region and the key's id.
var keyARN = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:key/([A-Za-z0-9-]+)$`)
})

// specs are the key specs of the six algorithms of the Notary Project.
var specs = map[types.KeySpec]string{
	types.KeySpecRsa2048:     "RSA-2048",
	types.KeySpecRsa3072:     "RSA-3072",
	types.KeySpecRsa4096:     "RSA-4096",
	types.KeySpecEccNistP256: "EC-256",
	types.KeySpecEccNistP384: "EC-384",
	types.KeySpecEccNistP521: "EC-521",
}

// Open opens a key of AWS KMS: awskms:///ID, awskms:///ARN or awskms:///alias/NAME, with the query keys region, profile and
// endpoint. The region is that of the ARN, else ?region=, else what the environment or the profile says. The key's ID is the
// URI with its key ARN, which an alias that moves cannot change.
func Open(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	k, err := open(ctx, u, o)
	if err != nil {
		return nil, fmt.Errorf("opening key %s: %w", kms.Format(u), err)
	}
	return k, nil
}

func open(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	n := nameOf(u)
	s, err := connect(ctx, n, o)
	if err != nil {
		return nil, err
	}
	var answer *sdk.GetPublicKeyOutput
	err = kms.Ask(ctx, kms.DefaultPatience, func(ctx context.Context) error {
		if answer, err = s.client.GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: &n.id}); err != nil {
			return s.explain(ctx, err, "kms:GetPublicKey", n.id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	r, err := remote(n, s, answer)
	if err != nil {
		return nil, err
	}
	return r.Key()
}

// remote judges what the service says of a key.
func remote(n name, s *session, answer *sdk.GetPublicKeyOutput) (kms.Remote, error) {
	arn := aws.ToString(answer.KeyId)
	m := keyARN().FindStringSubmatch(arn)
	switch {
	case m == nil:
		return kms.Remote{}, kms.Service("%s answers with %q, which is no key ARN", s.where, kms.Text(arn))
	case m[1] != s.region, !n.means(arn, m[2]):
		return kms.Remote{}, kms.Service("%s answers with another key: %s", s.where, arn)
	case answer.KeyUsage != types.KeyUsageTypeSignVerify:
		return kms.Remote{}, kms.Invalid(kms.CodeAlgorithm, "the key usage of %s is %s: %s", arn, kms.Text(string(answer.KeyUsage)), usable)
	}
	spec := answer.KeySpec
	if specs[spec] == "" {
		return kms.Remote{}, kms.Invalid(kms.CodeAlgorithm, "the key spec of %s is %s: %s", arn, kms.Text(string(spec)), usable)
	}
	public, err := x509.ParsePKIXPublicKey(answer.PublicKey)
	if err != nil {
		return kms.Remote{}, kms.Service("the public key of %s cannot be read: %w", arn, err)
	}
	a, err := kms.AlgorithmOf(public)
	if err != nil {
		return kms.Remote{}, err
	}
	if a.Spec != specs[spec] {
		return kms.Remote{}, kms.Service("the key spec of %s is %s, but its public key is of %s", arn, spec, a.Spec)
	}
	if want := algorithm(a); !slices.Contains(answer.SigningAlgorithms, want) {
		return kms.Remote{}, kms.Invalid(kms.CodeAlgorithm, "%s does not sign with %s, but with %s: %s", arn, want,
			kms.Text(fmt.Sprint(answer.SigningAlgorithms)), usable)
	}
	_, isRSA := public.(*rsa.PublicKey)
	return kms.Remote{
		URI:     n.pinned(arn),
		Service: service,
		Public:  public,
		Sign:    s.sign(arn),
		PKCS1:   isRSA && slices.Contains(answer.SigningAlgorithms, algorithmPKCS1(a)),
	}, nil
}

// A name is what a key URI says.
type name struct {
	id       string // as KMS takes it: key id, key ARN, alias/NAME, alias ARN
	region   string // "": what the environment says
	profile  string // "": what the environment says
	endpoint string // "": what the environment says
	uri      url.URL
}

// nameOf reads the canonical form of [kms.ParseURI].
func nameOf(u *url.URL) name {
	q := u.Query()
	n := name{id: strings.TrimPrefix(u.Path, "/"), region: q.Get("region"), profile: q.Get("profile"), endpoint: q.Get("endpoint"), uri: *u}
	if strings.HasPrefix(n.id, "arn:") {
		n.region = strings.Split(n.id, ":")[3] // the SDK does not look
	}
	return n
}

// means reports whether a key of the given ARN and id may be the answer to n. What an alias names only the service knows.
func (n name) means(arn, id string) bool {
	switch {
	case keyARN().MatchString(n.id):
		return n.id == arn
	case strings.Contains(n.id, "alias/"):
		return true
	}
	return n.id == id
}

// pinned returns the URI of the same place that names the key by its ARN, which has the region in it.
func (n name) pinned(arn string) string {
	u := n.uri
	u.Path, u.RawPath = "/"+arn, ""
	q := u.Query()
	q.Del("region")
	u.RawQuery = q.Encode()
	return kms.Format(&u)
}
