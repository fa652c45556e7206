package gcpkms

import (
	"context"
	"errors"
	"net"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/imprint-oci/imprint/kms"
)

// What gRPC makes up when nobody answered, or somebody else did; the texts are those of grpc-go and of cloud.google.com/go/auth.
func TestNobodyAnswered(t *testing.T) {
	t.Parallel()
	const perRPC = "transport: per-RPC creds failed due to error: "
	for text, tt := range map[string]struct {
		status    codes.Code
		answered  bool
		code      string
		temporary bool
		remedy    string
		says      string
	}{
		`connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority"`: {
			codes.Unavailable, false, kms.CodeUnreachable, false, "SSL_CERT_FILE", "x509: certificate signed by unknown authority"},
		`connection error: desc = "transport: Error while dialing: failed to do connect handshake, response: \"HTTP/1.1 407 Proxy Authentication Required\\r\\nProxy-Authenticate: Basic\\r\\n"`: {
			codes.Unavailable, false, kms.CodeUnreachable, false, "HTTPS_PROXY", "reaching cloudkms.googleapis.com: the proxy answers 407 Proxy Authentication Required"},
		`connection error: desc = "transport: Error while dialing: dial tcp 192.0.2.1:443: connect: connection refused"`: {
			codes.Unavailable, false, kms.CodeUnreachable, false, "HTTPS_PROXY", "reaching cloudkms.googleapis.com: Error while dialing: dial tcp 192.0.2.1:443: connect: connection refused"},
		"stream terminated by RST_STREAM with error code: INTERNAL_ERROR": {codes.Internal, false, kms.CodeUnreachable, false, "HTTPS_PROXY", "RST_STREAM"},
		`unexpected HTTP status code received from server: 403 (Forbidden); transport: received unexpected content-type "text/html"`: {
			codes.PermissionDenied, true, kms.CodeService, false, "HTTPS_PROXY", "what answered is not Google Cloud KMS"},
		`unexpected HTTP status code received from server: 503 (Service Unavailable)`: {codes.Unavailable, true, kms.CodeService, true, "HTTPS_PROXY", "not Google Cloud KMS"},
		perRPC + `auth: "invalid_grant" "Token has been expired or revoked."`: {
			codes.Unauthenticated, false, kms.CodeExpired, false, "gcloud auth application-default login", `the Google Cloud login is refused: auth: "invalid_grant"`},
		perRPC + "auth: cannot fetch token: 401\nResponse: {}": {codes.Unauthenticated, false, kms.CodeExpired, false, "log in again", "refused"},
		perRPC + "auth: cannot fetch token: 503\nResponse: <html>": {
			codes.Unauthenticated, false, kms.CodeService, true, "", "the token service of these credentials fails: auth: cannot fetch token: 503 Response"},
		perRPC + `auth: cannot fetch token: Post "https://oauth2.googleapis.com/token": dial tcp: lookup oauth2.googleapis.com: no such host`: {
			codes.Unauthenticated, false, kms.CodeUnreachable, false, "HTTPS_PROXY", "reaching the token service of these credentials"},
		perRPC + `auth: cannot fetch token: Post "https://oauth2.googleapis.com/token": Bad Gateway`: {
			codes.Unauthenticated, false, kms.CodeUnreachable, false, "HTTPS_PROXY", "reaching the token service of these credentials: auth: cannot fetch token: Post"},
		perRPC + `Get "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token": dial tcp 169.254.169.254:80: i/o timeout`: {
			codes.Unauthenticated, false, kms.CodeCredentials, false, "GOOGLE_APPLICATION_CREDENTIALS", "no Google Cloud credentials: "},
		perRPC + "credentials: unable to parse subject token": {codes.Unauthenticated, false, kms.CodeCredentials, false, "gcloud auth", "subject token"},
		"keys for PQC: public_key_format is required":         {codes.InvalidArgument, true, kms.CodeAlgorithm, false, "gcloud kms keys create", "EC_SIGN_P384_SHA384"},
		"upstream timed out":                                  {codes.DeadlineExceeded, true, kms.CodeUnreachable, false, "HTTPS_PROXY", "not done in time: upstream timed out"},
	} {
		class := kms.ErrService
		if tt.code == kms.CodeAlgorithm {
			class = kms.ErrInvalid
		}
		err := reading.failed(one, status.Error(tt.status, text), tt.answered)
		wantError(t, err, tt.code, class, tt.remedy, tt.says)
		var e *kms.Error
		if errors.As(err, &e) && e.Temporary != tt.temporary {
			t.Errorf("%s: temporary %t", text, e.Temporary)
		}
	}
}

// A terse is the service as it is when its status is all that it sends, without a header before it ("Trailers-Only" of gRPC's
// protocol), which an [http.Handler] cannot do.
type terse struct {
	kmspb.UnimplementedKeyManagementServiceServer
}

func (terse) GetPublicKey(context.Context, *kmspb.GetPublicKeyRequest) (*kmspb.PublicKey, error) {
	return nil, status.Error(codes.PermissionDenied, "Permission denied")
}

func TestTrailersOnly(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	kmspb.RegisterKeyManagementServiceServer(s, terse{})
	go s.Serve(listener)
	t.Cleanup(s.Stop)
	here := []option.ClientOption{option.WithEndpoint(listener.Addr().String()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))}
	for name, code := range map[string]string{one: kms.CodeDenied, keyName: kms.CodeService} {
		u, err := kms.ParseURI("gcpkms://" + name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = open(t.Context(), u, kms.Options{}, here...)
		var e *kms.Error
		if !errors.As(err, &e) || e.Code != code {
			t.Errorf("%v, want %s", err, code)
		}
	}
}
