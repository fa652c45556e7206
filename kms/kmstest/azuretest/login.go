package azuretest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Login is Entra ID: what a client asks of it, and the token for a client secret (RFC 6749 section 4.4).
func (s *Server) Login() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /common/discovery/instance", func(w http.ResponseWriter, r *http.Request) {
		write(w, http.StatusOK, map[string]any{
			"tenant_discovery_endpoint": "https://" + r.Host + "/" + s.Tenant + "/v2.0/.well-known/openid-configuration",
			"api-version":               "1.1",
			"metadata":                  []any{map[string]any{"preferred_network": r.Host, "preferred_cache": r.Host, "aliases": []string{r.Host}}},
		})
	})
	m.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("tenant") != s.Tenant {
			refuse(w, http.StatusBadRequest, "invalid_tenant", fmt.Sprintf(
				"AADSTS90002: Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", r.PathValue("tenant")))
			return
		}
		at := "https://" + r.Host + "/" + s.Tenant
		write(w, http.StatusOK, map[string]any{
			"issuer": at + "/v2.0", "authorization_endpoint": at + "/oauth2/v2.0/authorize", "token_endpoint": at + "/oauth2/v2.0/token",
		})
	})
	m.HandleFunc("POST /{tenant}/oauth2/v2.0/token", s.token)
	return m
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	switch s.count(Token) {
	case Throttled:
		refuse(w, http.StatusTooManyRequests, "temporarily_unavailable", "AADSTS90055: Tenant is throttled, because it makes too many requests.")
		return
	case Failing:
		refuse(w, http.StatusServiceUnavailable, "temporarily_unavailable", "AADSTS90033: A transient error has occurred. Please try again.")
		return
	case Silent:
		s.hold(r)
		return
	case SecretExpired:
		refuse(w, http.StatusUnauthorized, "invalid_client", fmt.Sprintf("AADSTS7000222: The provided client secret keys for app '%s' are expired. "+
			"Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret.", s.Client))
		return
	}
	if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "client_credentials" {
		refuse(w, http.StatusBadRequest, "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.")
		return
	}
	resource, ok := strings.CutSuffix(strings.Fields(r.PostForm.Get("scope") + " .")[0], "/.default")
	switch {
	case r.PostForm.Get("client_id") != s.Client:
		refuse(w, http.StatusBadRequest, "unauthorized_client", fmt.Sprintf(
			"AADSTS700016: Application with identifier '%s' was not found in the directory 'Test'.", r.PostForm.Get("client_id")))
	case r.PostForm.Get("client_secret") != s.Secret:
		refuse(w, http.StatusUnauthorized, "invalid_client", "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request "+
			"is the client secret value, not the client secret ID, for a secret added to app '"+s.Client+"'.")
	case !ok:
		refuse(w, http.StatusBadRequest, "invalid_scope", "AADSTS1002012: The provided value for scope is not valid.")
	default:
		token := "token-" + random(24)
		s.mu.Lock()
		s.tokens[token] = resource
		s.mu.Unlock()
		write(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token})
	}
}

// refuse answers as Entra ID does, with its trace after the text.
func refuse(w http.ResponseWriter, status int, code, text string) {
	trace := random(8)
	write(w, status, map[string]any{"error": code, "trace_id": trace,
		"error_description": text + " Trace ID: " + trace + " Correlation ID: " + random(8) + " Timestamp: 2026-11-22 14:00:00Z"})
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
