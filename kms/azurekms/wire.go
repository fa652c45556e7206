package azurekms

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/imprint-oci/imprint/kms"
)

// maxAnswer bounds what a vault or Entra ID may say, bytes. A secret has at most 25 KB, a certificate with its policy less.
const maxAnswer = 1 << 20

// A link is the way to Azure. The zero value is the one that the environment shows.
type link struct {
	transport *http.Transport                                            // nil: through the proxies of the environment
	login     func(policy.ClientOptions) (azcore.TokenCredential, error) // nil: DefaultAzureCredential
}

func (l link) credential(o policy.ClientOptions) (azcore.TokenCredential, error) {
	if l.login != nil {
		return l.login(o)
	}
	return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: o})
}

func (l link) transporter() policy.Transporter {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if l.transport != nil {
		t = l.transport.Clone()
	}
	t.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	t.ForceAttemptHTTP2 = true
	t.MaxIdleConnsPerHost = 32 // as many as may sign at once
	t.IdleConnTimeout = 90 * time.Second
	t.TLSHandshakeTimeout = 10 * time.Second
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 3 * time.Second} // a connection that died is noticed
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{}
	}
	t.TLSClientConfig.MinVersion = tls.VersionTLS12
	t.OnProxyConnectResponse = kms.ProxyAnswer
	return transporter{&http.Client{
		Transport: t,
		// Neither a vault nor Entra ID redirects, and a token goes nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// A transporter bounds answers, and tells the watch of a request's context what kept it from one. The SDK's credentials turn such
// errors into text.
type transporter struct{ client *http.Client }

func (t transporter) Do(r *http.Request) (*http.Response, error) {
	w := new(watch)
	if r.URL.Scheme == "https" { // plain HTTP is the SDK's search for a managed identity, whose failure is not one of a service
		w = watchOf(r.Context())
	}
	answer, err := t.client.Do(r)
	if err != nil {
		return nil, w.note(r.URL.Host, err)
	}
	answer.Body = &watched{kms.Bounded(answer.Body, maxAnswer), r.URL.Host, w}
	return answer, nil
}

// A watch remembers why a call got no answer.
type watch struct {
	mu   sync.Mutex
	host string
	err  error
}

type watchKey struct{}

// watching returns a context that reports to the watch.
func watching(ctx context.Context) (context.Context, *watch) {
	w := new(watch)
	return context.WithValue(ctx, watchKey{}, w), w
}

// watchOf returns the watch of a context, or one that nobody looks at.
func watchOf(ctx context.Context) *watch {
	if w, ok := ctx.Value(watchKey{}).(*watch); ok {
		return w
	}
	return new(watch)
}

// note keeps the last error, without the URL before it, and returns it.
func (w *watch) note(host string, err error) error {
	err = kms.WithoutURL(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.host, w.err = host, err
	return err
}

// failed returns what was noted; nil: nothing.
func (w *watch) failed() (host string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.host, w.err
}

// A watched is the body of an answer, whose breaking off is noted too.
type watched struct {
	io.ReadCloser
	host  string
	watch *watch
}

func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, kms.ErrTooLong):
		return n, kms.Service("reading what %s says: %w", b.host, err)
	case errors.Is(err, kms.ErrBroken):
		return n, b.watch.note(b.host, err)
	}
	return n, err
}

// A guard stands between the SDK's authentication and the wire. The SDK compares a challenge's resource with the vault's host and
// would take any parent domain, and panics on an authority without a path; here the resource is the vault's domain and nothing else.
type guard struct{ resource string }

func (g guard) Do(r *policy.Request) (*http.Response, error) {
	answer, err := r.Next()
	if err != nil || answer.StatusCode != http.StatusUnauthorized {
		return answer, err
	}
	challenge := answer.Header.Get("WWW-Authenticate")
	if challenge == "" {
		return answer, nil
	}
	host := r.Raw().URL.Host
	values := challengeValues(challenge)
	resource := values["scope"]
	if resource == "" {
		resource = values["resource"]
	}
	if resource == "" && values["error"] == "insufficient_claims" { // continuous access evaluation: a fresh token for the same resource
		return answer, nil
	}
	if u, err := url.Parse(strings.TrimSuffix(resource, "/.default")); err != nil || u.Scheme != "https" || !strings.EqualFold(u.Host, g.resource) {
		return nil, kms.Failure(kms.CodeService, "check the vault's name, and what answers in its place",
			"%s wants a token for %q instead of https://%s: none was sent", host, kms.Text(resource), g.resource)
	}
	if u, err := url.Parse(values["authorization"]); err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") == "" {
		return nil, kms.Service("%s names the token service %q, which is none", host, kms.Text(values["authorization"]))
	}
	return answer, nil
}

// challengeValues reads a challenge exactly as the SDK does, so that both see the same.
func challengeValues(challenge string) map[string]string {
	values := map[string]string{}
	for part := range strings.SplitSeq(strings.ReplaceAll(challenge, "Bearer ", ""), " ") {
		if pair := strings.Split(part, "="); len(pair) == 2 {
			values[pair[0]] = strings.TrimSuffix(strings.ReplaceAll(pair[1], `"`, ""), ",")
		}
	}
	return values
}

// collection is the context key of the collection that a request is for instead of keys.
type collection struct{}

// redirected turns a request for keys/NAME/VERSION into one for certificates/NAME/VERSION, if the context says so. There is no
// client for certificates here, and the SDK's authentication of vaults cannot be had apart from its clients.
type redirected struct{}

func (redirected) Do(r *policy.Request) (*http.Response, error) {
	if to, ok := r.Raw().Context().Value(collection{}).(string); ok {
		u := r.Raw().URL
		u.Path, u.RawPath = "/"+to+"/"+strings.TrimPrefix(u.Path, "/keys/"), ""
	}
	return r.Next()
}
