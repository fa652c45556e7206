package gcpkms

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest/gcptest"
	"github.com/imprint-oci/imprint/kms/kmstest/wiretest"
)

const (
	keyName = "projects/acme.example:p/locations/europe-west3/keyRings/r/cryptoKeys/K"
	one     = keyName + "/cryptoKeyVersions/1"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests wait for the patience of the client, not for a processor.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// A place is the service behind the proxy, and a client that finds it there.
type place struct {
	*gcptest.Server
	world   *wiretest.World
	options []option.ClientOption
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{Server: gcptest.New(t), world: wiretest.New(t)}
	p.world.Serve(gcptest.Host, p.Server)
	ca, err := os.ReadFile(p.world.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	p.options = []option.ClientOption{
		option.WithAuthCredentialsFile(option.ServiceAccount, p.Credentials()),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}))),
		p.through(p.world.Proxy),
	}
	return p
}

// through has the client connect through a proxy, as HTTPS_PROXY would if it were not of the whole process.
func (p *place) through(proxy string) option.ClientOption {
	return option.WithGRPCDialOption(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return p.dial(ctx, proxy, address)
	}))
}

func (p *place) dial(ctx context.Context, proxy, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(proxy, "http://"))
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", address, address); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the proxy says %s", response.Status)
	}
	return c, nil
}

func (p *place) open(t *testing.T, name string, more ...option.ClientOption) (kms.Key, error) {
	t.Helper()
	u, err := kms.ParseURI("gcpkms://" + name)
	if err != nil {
		t.Fatal(err)
	}
	return open(t.Context(), u, kms.Options{Agent: "imprint/1.2.3"}, append(p.options, more...)...)
}

func (p *place) mustOpen(t *testing.T, name string) kms.Key {
	t.Helper()
	k, err := p.open(t, name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t *testing.T, k kms.Key) ([]byte, error) {
	t.Helper()
	a, err := kms.AlgorithmOf(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k.Sign(t.Context(), []byte("message"), a.SignerOpts())
}

// always has every call of a method fail alike; only the first n of them; all after the first n.
func always(op string, f gcptest.Fault) func(string, int) gcptest.Fault {
	return first(1<<30, op, f)
}

func first(n int, op string, f gcptest.Fault) func(string, int) gcptest.Fault {
	return func(called string, i int) gcptest.Fault {
		if called == op && i <= n {
			return f
		}
		return gcptest.OK
	}
}

// wantError checks code, class, texts and remedy of an error.
func wantError(t *testing.T, err error, code string, class error, remedy string, says ...string) {
	t.Helper()
	var e *kms.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *kms.Error", err)
	}
	if e.Code != code || !errors.Is(err, class) {
		t.Errorf("%v: code %s, class %v, want %s, %v", err, e.Code, e.Class, code, class)
	}
	if !strings.Contains(e.Remedy, remedy) || remedy == "" && e.Remedy != "" {
		t.Errorf("%v: remedy %q, want %q", err, e.Remedy, remedy)
	}
	if strings.ContainsAny(e.Remedy+err.Error(), "\n\x1b") {
		t.Errorf("%q, %q: more than a line", err, e.Remedy)
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v: it does not say %q", err, text)
		}
	}
}
