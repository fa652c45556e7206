// Package gcptest emulates Google Cloud KMS on the wire: gRPC, with keys that sign, tokens that are checked, and the statuses and
// texts of the real service.
package gcptest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/imprint-oci/imprint/kms/kmstest/wiretest"
)

// Host is where the service is.
const Host = "cloudkms.googleapis.com"

// The methods of the service that are emulated.
const (
	GetPublicKey          = "GetPublicKey"
	AsymmetricSign        = "AsymmetricSign"
	ListCryptoKeyVersions = "ListCryptoKeyVersions"
)

// A Server is the service. It is an [http.Handler] for HTTP/2, so that wiretest.World.Serve(gcptest.Host, s) puts it in its place.
type Server struct {
	kmspb.UnimplementedKeyManagementServiceServer

	grpc    *grpc.Server
	account *account

	mu     sync.Mutex
	keys   map[string]*Version
	calls  map[string]int
	agents []string
	fault  func(op string, n int) Fault
	delay  time.Duration
}

// A Version is one version of a key.
type Version struct {
	Key       crypto.Signer
	Algorithm kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm
	State     kmspb.CryptoKeyVersion_CryptoKeyVersionState
	PEM       string // of the public key
}

// An Algorithm is one that the service calls by another name than the public key's kind.
func Algorithm(a kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm) func(*Version) {
	return func(v *Version) { v.Algorithm = a }
}

// State puts a version into a state other than ENABLED.
func State(s kmspb.CryptoKeyVersion_CryptoKeyVersionState) func(*Version) {
	return func(v *Version) { v.State = s }
}

// New makes a service without keys, and a service account that may use it.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{keys: map[string]*Version{}, calls: map[string]int{}, account: newAccount(t)}
	s.grpc = grpc.NewServer(grpc.UnaryInterceptor(s.intercept))
	kmspb.RegisterKeyManagementServiceServer(s.grpc, s)
	return s
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.grpc.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, r.Context())))
}

// A requestKey is the key under which a call's context holds that of its request, which does not end with the deadline of the call.
type requestKey struct{}

// AddKey adds the version of a key, whose name is projects/…/cryptoKeyVersions/N. Its algorithm is the usable one of the key's kind,
// unless edits say otherwise.
func (s *Server) AddKey(name string, key crypto.Signer, edits ...func(*Version)) {
	v := &Version{Key: key, Algorithm: algorithmOf(key.Public()), State: kmspb.CryptoKeyVersion_ENABLED}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err)
	}
	v.PEM = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	for _, edit := range edits {
		edit(v)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name] = v
}

func algorithmOf(pub crypto.PublicKey) kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		switch pub.N.BitLen() {
		case 2048:
			return kmspb.CryptoKeyVersion_RSA_SIGN_PSS_2048_SHA256
		case 3072:
			return kmspb.CryptoKeyVersion_RSA_SIGN_PSS_3072_SHA256
		case 4096:
			return kmspb.CryptoKeyVersion_RSA_SIGN_PSS_4096_SHA512
		}
	case *ecdsa.PublicKey:
		switch pub.Curve.Params().BitSize {
		case 256:
			return kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256
		case 384:
			return kmspb.CryptoKeyVersion_EC_SIGN_P384_SHA384
		}
	}
	return kmspb.CryptoKeyVersion_CRYPTO_KEY_VERSION_ALGORITHM_UNSPECIFIED
}

// Fault has f decide what goes wrong with the n-th call (from 1) of a method. nil: nothing does.
func (s *Server) Fault(f func(op string, n int) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Latency makes each call take that long.
func (s *Server) Latency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

// Calls returns how often a method was called, whatever came of it.
func (s *Server) Calls(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// Methods returns the methods that were called, sorted.
func (s *Server) Methods() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ops []string
	for op := range s.calls {
		ops = append(ops, op)
	}
	slices.Sort(ops)
	return ops
}

// Agents returns the user agents of all calls.
func (s *Server) Agents() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.agents)
}

// Reset forgets calls and faults.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.agents, s.fault = map[string]int{}, nil, nil
}

// A faultKey is the key under which a call's context holds its fault.
type faultKey struct{}

func faultOf(ctx context.Context) Fault {
	f, _ := ctx.Value(faultKey{}).(Fault)
	return f
}

// intercept does what the front of the service does before a method runs, and breaks what it answered.
func (s *Server) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	op := path.Base(info.FullMethod)
	md, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	s.calls[op]++
	s.agents = append(s.agents, strings.Join(md.Get("user-agent"), " "))
	fault := OK
	if s.fault != nil {
		fault = s.fault(op, s.calls[op])
	}
	delay := s.delay
	s.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fault == Silence {
		request, _ := ctx.Value(requestKey{}).(context.Context)
		<-request.Done()
		return nil, request.Err()
	}
	if err := s.account.check(md.Get("authorization")); err != nil {
		return nil, err
	}
	name := ""
	switch r := request.(type) {
	case interface{ GetName() string }:
		name = r.GetName()
	case interface{ GetParent() string }:
		name = r.GetParent()
	}
	// Routing goes by this header; the service refuses calls without it.
	if !strings.Contains(strings.Join(md.Get("x-goog-request-params"), " "), "=projects") {
		return nil, fail(codes.InvalidArgument, "missing routing header")
	}
	if err := fault.status(op, name); err != nil {
		return nil, err
	}
	if list, ok := request.(*kmspb.ListCryptoKeyVersionsRequest); ok && fault == Unfiltered {
		list.Filter = ""
	}
	answer, err := handle(context.WithValue(ctx, faultKey{}, fault), request)
	switch fault {
	case Lost:
		wiretest.Cut(ctx)
	case LargeAnswer:
		enlarge(answer)
	}
	return answer, err
}

// enlarge makes 5 MB of an answer.
func enlarge(answer any) {
	const size = 5 << 20
	switch a := answer.(type) {
	case *kmspb.PublicKey:
		a.Pem += strings.Repeat("\n", size)
		a.PemCrc32C = checksum([]byte(a.Pem))
	case *kmspb.AsymmetricSignResponse:
		a.Signature = append(a.Signature, make([]byte, size)...)
		a.SignatureCrc32C = checksum(a.Signature)
	}
}

func (s *Server) GetPublicKey(ctx context.Context, r *kmspb.GetPublicKeyRequest) (*kmspb.PublicKey, error) {
	v, err := s.version(r.Name)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(v.Algorithm.String(), "PQ_") && r.PublicKeyFormat == kmspb.PublicKey_PUBLIC_KEY_FORMAT_UNSPECIFIED {
		return nil, fail(codes.InvalidArgument, "public_key_format must be specified for PQC algorithms.")
	}
	answer := &kmspb.PublicKey{Name: r.Name, Algorithm: v.Algorithm, Pem: v.PEM, PemCrc32C: checksum([]byte(v.PEM)),
		ProtectionLevel: kmspb.ProtectionLevel_HSM}
	switch faultOf(ctx) {
	case OtherName:
		answer.Name = path.Dir(r.Name) + "/77"
	case BadChecksum:
		answer.PemCrc32C.Value ^= 1
	case NoChecksum:
		answer.PemCrc32C = nil
	case OtherAlgorithm:
		answer.Algorithm = kmspb.CryptoKeyVersion_RSA_SIGN_PSS_2048_SHA256
	case TrailingPEM:
		answer.Pem += answer.Pem
		answer.PemCrc32C = checksum([]byte(answer.Pem))
	}
	return answer, nil
}

func (s *Server) AsymmetricSign(ctx context.Context, r *kmspb.AsymmetricSignRequest) (*kmspb.AsymmetricSignResponse, error) {
	v, err := s.version(r.Name)
	if err != nil {
		return nil, err
	}
	fault := faultOf(ctx)
	digest, hash := digestOf(r.Digest)
	if r.DigestCrc32C != nil && r.DigestCrc32C.Value != checksum(digest).Value {
		return nil, fail(codes.InvalidArgument, "The checksum in field digest_crc32c did not match the data in field digest.")
	}
	signature, err := v.sign(digest, hash, fault)
	if err != nil {
		return nil, err
	}
	answer := &kmspb.AsymmetricSignResponse{Name: r.Name, Signature: signature, SignatureCrc32C: checksum(signature),
		VerifiedDigestCrc32C: r.DigestCrc32C != nil, ProtectionLevel: kmspb.ProtectionLevel_HSM}
	switch fault {
	case OtherName:
		answer.Name = path.Dir(r.Name) + "/77"
	case BadChecksum:
		answer.SignatureCrc32C.Value ^= 1
	case NoChecksum:
		answer.SignatureCrc32C = nil
	case Unverified:
		answer.VerifiedDigestCrc32C = false
	}
	return answer, nil
}

// ListCryptoKeyVersions lists in pages of two, sorted as text, as names are.
func (s *Server) ListCryptoKeyVersions(_ context.Context, r *kmspb.ListCryptoKeyVersionsRequest) (*kmspb.ListCryptoKeyVersionsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, v := range s.keys {
		if path.Dir(path.Dir(name)) == r.Parent && (r.Filter == "" || v.State == kmspb.CryptoKeyVersion_ENABLED) {
			names = append(names, name)
		}
	}
	if r.Filter != "" && r.Filter != "state=ENABLED" {
		return nil, fail(codes.InvalidArgument, "the emulator knows no filter "+r.Filter)
	}
	slices.Sort(names)
	answer := &kmspb.ListCryptoKeyVersionsResponse{TotalSize: int32(len(names))}
	at, _ := slices.BinarySearch(names, r.PageToken)
	for _, name := range names[at:min(at+2, len(names))] {
		answer.CryptoKeyVersions = append(answer.CryptoKeyVersions,
			&kmspb.CryptoKeyVersion{Name: name, State: s.keys[name].State, Algorithm: s.keys[name].Algorithm})
	}
	if at+2 < len(names) {
		answer.NextPageToken = names[at+2]
	}
	return answer, nil
}

// version finds a version that is enabled. The texts are the service's.
func (s *Server) version(name string) (*Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.keys[name]
	if !ok {
		return nil, fail(codes.NotFound, fmt.Sprintf("CryptoKeyVersion %s not found.", name))
	}
	if v.State != kmspb.CryptoKeyVersion_ENABLED {
		return nil, fail(codes.FailedPrecondition, inState(name, v.State.String()))
	}
	return v, nil
}

func digestOf(d *kmspb.Digest) ([]byte, crypto.Hash) {
	switch d := d.GetDigest().(type) {
	case *kmspb.Digest_Sha256:
		return d.Sha256, crypto.SHA256
	case *kmspb.Digest_Sha384:
		return d.Sha384, crypto.SHA384
	case *kmspb.Digest_Sha512:
		return d.Sha512, crypto.SHA512
	}
	return nil, 0
}

var _ kmspb.KeyManagementServiceServer = (*Server)(nil)

func checksum(b []byte) *wrapperspb.Int64Value { return wrapperspb.Int64(crc32c(b)) }
