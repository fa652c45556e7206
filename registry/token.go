package registry

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
)

const maxToken = 128 << 10 // bytes of a token service's answer

// builtinRealms are token services of honest registries that live on another host.
var builtinRealms = []string{"auth.docker.io:443", "gitlab.com:443"}

// token fetches a token from the realm of a challenge (https://distribution.github.io/distribution/spec/auth/).
func (a *authorizer) token(ctx context.Context, x *exchange, cred Credential) (string, error) {
	if cred.AccessToken != "" {
		return cred.AccessToken, nil
	}
	req, err := tokenRequest(ctx, x, auth.GetScopes(ctx), cred)
	if err != nil {
		return "", err
	}
	req.Header.Set("User-Agent", a.agent)
	send := a.tokens.Do
	if (cred != Credential{}) {
		h := a.host(x.host)
		done, err := h.begin(ctx)
		if err != nil {
			return "", err
		}
		send = func(req *http.Request) (*http.Response, error) {
			resp, err := a.tokens.Do(req)
			done(func() {
				if err == nil && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusUnauthorized) {
					h.judge(x, resp.StatusCode)
				}
			})
			return resp, err
		}
	}
	resp, err := send(req)
	if err != nil {
		return "", doing("fetching a token for "+x.host, transportError(ctx, req.URL.Host, err))
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxToken+1))
	if err != nil {
		return "", doing("fetching a token for "+x.host, transportError(ctx, req.URL.Host, err))
	}
	if resp.StatusCode != http.StatusOK {
		return "", tokenError(x, cred, req.URL.Host, resp.StatusCode)
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if len(body) > maxToken || json.Unmarshal(body, &answer) != nil || answer.Token == "" && answer.AccessToken == "" {
		return "", fail(codeUnauthorized, "fetching a token for %s: %w: %s answered with none", x.host, ErrUnauthorized, req.URL.Host)
	}
	if answer.AccessToken != "" {
		return answer.AccessToken, nil
	}
	return answer.Token, nil
}

// tokenRequest asks with a refresh token as OAuth 2 says, else with the password, or with nothing, as the token specification does.
func tokenRequest(ctx context.Context, x *exchange, scopes []string, cred Credential) (*http.Request, error) {
	scopes = auth.CleanScopes(append(scopes, ownScope(x.challenge.scope, x.repositories)...))
	if cred.RefreshToken != "" {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {cred.RefreshToken}, "service": {x.challenge.service}, "client_id": {"imprint"}}
		if len(scopes) > 0 {
			form.Set("scope", strings.Join(scopes, " "))
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, x.challenge.realm, strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return req, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, x.challenge.realm, nil)
	if err != nil {
		return nil, err
	}
	q := req.URL.Query()
	if x.challenge.service != "" {
		q.Set("service", x.challenge.service)
	}
	for _, s := range scopes {
		q.Add("scope", s)
	}
	req.URL.RawQuery = q.Encode()
	if cred.Username != "" || cred.Password != "" {
		req.SetBasicAuth(cred.Username, cred.Password)
	}
	return req, nil
}

// tokenError says why a token service gave none. What it wrote is not repeated: it has just seen the password.
func tokenError(x *exchange, cred Credential, realm string, status int) error {
	doing := "fetching a token for " + x.host + " from " + realm
	switch {
	case status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout:
		return fail(codeUnavailable, "%s: %w: status %d", doing, ErrUnavailable, status)
	case cred == Credential{}:
		return fail(codeUnauthorized, "%s: %w: no credential for %s", doing, ErrUnauthorized, x.host)
	case status == http.StatusUnauthorized:
		return fail(codeUnauthorized, "%s: %w: the credential was refused", doing, ErrUnauthorized)
	}
	return fail(codeUnauthorized, "%s: %w: status %d", doing, ErrUnauthorized, status)
}

// believe reports whether a token service may be asked, and be told who is asking: the registry's own host and port,
// one of the built-in list, or one that the caller named. Never http where the registry speaks https.
func (a *authorizer) believe(realm string, registry *url.URL) error {
	u, err := url.Parse(realm)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return fail(codeRealm, "%w: %s names a token service that is no URL of one", ErrUnauthorized, registry.Host)
	}
	host := canonicalHost(u)
	refuse := func(why string) error {
		return fail(codeRealm, "%w: %s names the token service %s, %s", ErrUnauthorized, registry.Host, strconv.QuoteToASCII(u.Host), why)
	}
	if u.Scheme == "http" && registry.Scheme != "http" {
		return refuse("which is not encrypted")
	}
	if host == canonicalHost(registry) {
		return nil
	}
	if u.Scheme == "https" && slices.Contains(builtinRealms, host) {
		return nil
	}
	for _, t := range a.trusted {
		t = strings.ToLower(t)
		if _, _, err := net.SplitHostPort(t); err == nil && t == host || strings.Trim(t, "[]") == strings.ToLower(u.Hostname()) {
			return nil
		}
	}
	return refuse("which is another host")
}
