-- An example of a sender for `revocations.webhook`: reports bans and deletions of users to Foregate,
-- which ends their sign-ins at once. Supabase Auth itself sends no messages about its users, so a
-- trigger on its table does. It needs the extensions pg_net and pgcrypto (in the schema `extensions`), and two secrets in
-- Supabase Vault:
--
--     SELECT vault.create_secret('whsec_…', 'foregate_webhook_secret');
--     SELECT vault.create_secret('https://gateway.example.com/webhooks/identity', 'foregate_webhook_url');
--
-- The first is one of `revocations.webhook.secret`. Run once, as a role that owns auth.users or may
-- create triggers on it:
--
--     psql "$ADMIN_URL" -v ON_ERROR_STOP=1 -f deploy/sql/webhook.sql
--
-- pg_net sends a message after the transaction was committed, and once: it does not repeat one that
-- was lost. What must hold without it is in `facts.caller`. Signatures are those of Standard
-- Webhooks; the body is signed as the text that pg_net sends.

BEGIN;

-- Runs as its owner, since the identity server's role may read no secrets, with a fixed search path.
CREATE OR REPLACE FUNCTION foregate_report_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    secret text := (SELECT decrypted_secret FROM vault.decrypted_secrets WHERE name = 'foregate_webhook_secret');
    url text := (SELECT decrypted_secret FROM vault.decrypted_secrets WHERE name = 'foregate_webhook_url');
    kind text := CASE WHEN TG_OP = 'DELETE' OR NEW.deleted_at IS NOT NULL THEN 'user.deleted' ELSE 'user.banned' END;
    body jsonb := jsonb_build_object('type', kind, 'data', jsonb_build_object('id', OLD.id));
    id text := gen_random_uuid()::text;
    sent text := floor(extract(epoch FROM clock_timestamp()))::bigint::text;
    signature text;
BEGIN
    IF secret IS NULL OR url IS NULL THEN
        RAISE WARNING 'foregate_webhook_secret or foregate_webhook_url is missing in the vault: user % is not reported', OLD.id;
        RETURN NULL;
    END IF;
    signature := 'v1,' || encode(extensions.hmac(convert_to(id || '.' || sent || '.' || body::text, 'UTF8'), decode(substr(secret, 7), 'base64'), 'sha256'), 'base64');
    PERFORM net.http_post(
        url := url,
        body := body,
        headers := jsonb_build_object('Content-Type', 'application/json', 'webhook-id', id, 'webhook-timestamp', sent, 'webhook-signature', signature));
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    -- A ban must not fail for it.
    RAISE WARNING 'user % is not reported: %', OLD.id, SQLERRM;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER foregate_report_ban AFTER UPDATE OF banned_until, deleted_at ON auth.users
    FOR EACH ROW WHEN (
        (NEW.banned_until IS DISTINCT FROM OLD.banned_until AND NEW.banned_until > now())
        OR (NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL))
    EXECUTE FUNCTION foregate_report_user();
CREATE OR REPLACE TRIGGER foregate_report_deletion AFTER DELETE ON auth.users
    FOR EACH ROW EXECUTE FUNCTION foregate_report_user();

COMMIT;
