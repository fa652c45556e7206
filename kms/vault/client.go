package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/openbao/openbao/api/v2"

	"github.com/imprint-oci/imprint/kms"
)

// connect makes the client. Address, TLS, proxy and namespace come from the variables; an address in the URI goes first.
func (e *engine) connect(addr string, o kms.Options) error {
	c := api.DefaultConfig()
	if c.Error != nil {
		return kms.Failure(kms.CodeCredentials, "check "+e.names.either("CACERT", "CAPATH", "CLIENT_CERT", "CLIENT_KEY", "SKIP_VERIFY", "PROXY_ADDR"),
			"reading the settings of %s: %w", e.names.service, kms.WithoutURL(c.Error))
	}
	if addr != "" {
		set := api.ReadBaoVariable(api.EnvVaultAddress)
		e.elsewhere = set != "" && !sameServer(set, addr)
		c.Address, c.AgentAddress = addr, ""
	}
	used := c.Address
	if c.AgentAddress != "" {
		used = c.AgentAddress
	}
	shown, err := showable(used)
	switch {
	case err != nil && addr != "":
		return kms.Invalid(kms.CodeURI, "the address in the key URI %w", err)
	case err != nil:
		return kms.Failure(kms.CodeUnreachable, "set "+e.names.either("ADDR")+" as https://HOST:8200", "the address of %s %w", e.names.service, err)
	}
	c.MaxRetries = 0 // kms.Ask asks again
	c.DisableRedirects = true
	if t, ok := c.HttpClient.Transport.(*http.Transport); ok {
		t.OnProxyConnectResponse = kms.ProxyAnswer
	}
	if e.client, err = api.NewClient(c); err != nil {
		return kms.Failure(kms.CodeUnreachable, "", "reaching %s at %s: %w", e.names.service, shown, kms.WithoutURL(err))
	}
	// Only now: the client wants a transport of its own kind while it is made.
	c.HttpClient.Transport = bounded{c.HttpClient.Transport}
	e.client.SetWrappingLookupFunc(func(string, string) string { return "" }) // BAO_WRAP_TTL is for people who hand secrets on
	if o.Agent != "" {
		e.client.AddHeader("User-Agent", o.Agent)
	}
	e.place.address = shown
	if o.Warn != nil && strings.HasPrefix(shown, "https:") && c.TLSConfig().InsecureSkipVerify {
		o.Warn(fmt.Sprintf("the certificate of %s is not checked: whoever answers there is given the token (%s)", e.at(), e.names.either("SKIP_VERIFY")))
	}
	return nil
}

// either names variables in both spellings.
func (n names) either(variables ...string) string {
	both := make([]string, len(variables))
	for i, v := range variables {
		both[i] = n.env + v + " or " + n.other + v
	}
	return strings.Join(both, ", ")
}

// showable checks an address and returns it as it may be shown: without user information.
func showable(addr string) (string, error) {
	u, err := url.Parse(addr)
	if err != nil {
		return "", errors.New("is no URL") // the error repeats the text
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
	default:
		return "", errors.New("is no URL of the form https://HOST:PORT")
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("has a query or a fragment")
	}
	u.User = nil
	return strings.TrimRight(u.String(), "/"), nil
}

func sameServer(a, b string) bool {
	u, err := url.Parse(a)
	v, other := url.Parse(b)
	return err == nil && other == nil && u.Scheme == v.Scheme && strings.EqualFold(u.Host, v.Host)
}

// plainHTTP reports whether a token that goes to addr leaves this machine unencrypted.
func plainHTTP(addr string) bool {
	u, err := url.Parse(addr)
	return err == nil && kms.Unencrypted(u)
}

// ask asks the engine once; body, unless nil, is sent as JSON, and the data of the answer is decoded into data. Errors are *kms.Error.
func (e *engine) ask(ctx context.Context, method, operation string, body, data any) error {
	r := e.client.NewRequest(method, "/v1/"+e.path(operation))
	if body != nil {
		if err := r.SetJSONBody(body); err != nil {
			return kms.Service("encoding a request: %w", err)
		}
	}
	answer, err := e.client.RawRequestWithContext(ctx, r)
	if answer != nil && answer.Response != nil {
		defer answer.Body.Close()
	}
	if err != nil {
		return e.explain(operation, answer, err)
	}
	if answer.StatusCode != http.StatusOK {
		return e.odd(operation, answer)
	}
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return e.explain(operation, nil, err)
	}
	var envelope struct {
		Data json.RawMessage `json:"data"`
	}
	err = json.Unmarshal(b, &envelope)
	if err == nil && (len(envelope.Data) == 0 || bytes.Equal(envelope.Data, []byte("null"))) {
		err = errors.New("there is no data in it")
	}
	if err == nil {
		err = json.Unmarshal(envelope.Data, data)
	}
	if err != nil {
		return kms.Service("the answer of %s about %s cannot be read: %w", e.at(), e.path(operation), err)
	}
	return nil
}

// bounded cuts answers off that are longer than maxAnswer; the client reads those of errors to their end.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(r)
	if answer != nil {
		answer.Body = kms.Bounded(answer.Body, maxAnswer)
	}
	return answer, err
}
