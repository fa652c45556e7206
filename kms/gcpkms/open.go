// Package gcpkms opens signing keys of Google Cloud KMS. They are named by the versions of their keys, as
//
//	gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N
//
// and reached with Application Default Credentials: the file that GOOGLE_APPLICATION_CREDENTIALS names, the login of gcloud, or
// the metadata server. With a version in the URI two methods are called and no others, GetPublicKey and AsymmetricSign, so that
// roles/cloudkms.signerVerifier is all that is needed. Without one the versions are listed too.
package gcpkms

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	cloudkms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/imprint-oci/imprint/kms"
)

// maxAnswer bounds one answer of the service, bytes. A page of versions, the largest, stays below a tenth of it.
const maxAnswer = 4 << 20

var _ kms.Opener = Open

// Open opens the key version that u names, or the newest enabled version of the key that u names. It is a [kms.Opener].
func Open(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	return open(ctx, u, o)
}

// open is Open with further options of the client, which tests need to reach an emulator inside their own process.
func open(ctx context.Context, u *url.URL, o kms.Options, extra ...option.ClientOption) (kms.Key, error) {
	k, err := openName(ctx, resource(u.Host+u.Path), o, extra)
	if err != nil {
		return nil, fmt.Errorf("opening key %s: %w", kms.Format(u), err)
	}
	return k, nil
}

func openName(ctx context.Context, name resource, o kms.Options, extra []option.ClientOption) (_ kms.Key, err error) {
	client, err := connect(ctx, o, extra)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = client.Close()
		}
	}()
	picked := name.version() == ""
	if picked {
		if name, err = newest(ctx, client, name); err != nil {
			return nil, err
		}
	}
	v := &version{name: name, client: client}
	pub, err := v.public(ctx)
	if err != nil && picked {
		err = fmt.Errorf("version %s, the newest enabled one: %w", name.version(), err)
	}
	if err != nil {
		return nil, err
	}
	// The client stays open as long as the key lives, which is as long as the process.
	return kms.Remote{URI: name.uri(), Service: "Google Cloud KMS", Version: name.version(), Public: pub, Sign: v.sign}.Key()
}

// connect makes the client. It asks nobody, but for the metadata server of a machine that has no other credentials.
func connect(ctx context.Context, o kms.Options, extra []option.ClientOption) (*cloudkms.KeyManagementClient, error) {
	options := []option.ClientOption{
		option.WithTelemetryDisabled(),
		// GOOGLE_SDK_GO_LOGGING_LEVEL=debug would have tokens logged.
		option.WithLogger(slog.New(slog.DiscardHandler)),
		option.WithGRPCDialOption(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer))),
		// kms.Ask pauses for 100 ms first. gRPC's own first pause of 1 s would have it see the same failure three times.
		option.WithGRPCDialOption(grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 2 * kms.DefaultPatience, // so that our own deadline is the one that ends the wait
		})),
	}
	if o.Agent != "" {
		options = append(options, option.WithUserAgent(o.Agent))
	}
	client, err := cloudkms.NewKeyManagementClient(ctx, append(options, extra...)...)
	if err != nil {
		return nil, noCredentials(err.Error())
	}
	// Without these options the client repeats each call for up to a minute. kms.Ask repeats, and nobody else.
	client.CallOptions = &cloudkms.KeyManagementCallOptions{}
	return client, nil
}

// newest returns the enabled version of key with the highest number. The service sorts names as text, where 9 is above 10.
func newest(ctx context.Context, client *cloudkms.KeyManagementClient, key resource) (resource, error) {
	highest := uint64(0)
	err := kms.Ask(ctx, kms.DefaultPatience, func(ctx context.Context) error {
		highest = 0
		var heard answer
		versions := client.ListCryptoKeyVersions(ctx, &kmspb.ListCryptoKeyVersionsRequest{
			Parent: string(key), PageSize: 1000, Filter: "state=ENABLED",
		}, heard.listen())
		for {
			v, err := versions.Next()
			if err == iterator.Done { //nolint:errorlint // the package's contract: it comes unwrapped
				return nil
			}
			if err != nil {
				return listing.failed(key, err, heard.came())
			}
			number, ok := strings.CutPrefix(v.Name, string(key)+"/cryptoKeyVersions/")
			n, err := strconv.ParseUint(number, 10, 63)
			if !ok || err != nil {
				return kms.Service("listing its versions: the service names %q", kms.Text(v.Name))
			}
			if v.State == kmspb.CryptoKeyVersion_ENABLED {
				highest = max(highest, n)
			}
		}
	})
	if err != nil {
		return "", err
	}
	if highest == 0 {
		return "", kms.Failure(kms.CodeUnusable, "`gcloud kms keys versions list "+key.flags()+"` shows them; enable one: `gcloud kms keys versions enable N "+
			key.flags()+"`", "none of its versions is enabled")
	}
	return resource(fmt.Sprintf("%s/cryptoKeyVersions/%d", key, highest)), nil
}

// A resource is the name of a key or of a key version, as projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N.
type resource string

// part returns the segment of the name that follows the given one, "" if there is none.
func (r resource) part(after string) string {
	segments := strings.Split(string(r), "/")
	for i := 0; i+1 < len(segments); i += 2 {
		if segments[i] == after {
			return segments[i+1]
		}
	}
	return ""
}

func (r resource) version() string { return r.part("cryptoKeyVersions") }

// uri returns the canonical key URI.
func (r resource) uri() string {
	return kms.Format(&url.URL{Scheme: "gcpkms", Host: "projects", Path: strings.TrimPrefix(string(r), "projects")})
}

// flags names the key to gcloud kms keys versions.
func (r resource) flags() string { return "--key " + r.part("cryptoKeys") + " " + r.ring() }

// ring names the key ring to gcloud.
func (r resource) ring() string {
	return "--keyring " + r.part("keyRings") + " --location " + r.part("locations") + " --project " + r.part("projects")
}
