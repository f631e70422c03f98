-- Managed by Ansible: roles/haproxy. Changes here are overwritten.
-- Answers to an ACME authority's challenges: small files, which certbot writes and removes. HAProxy sees no folder but its own.
core.register_action("acme", { "http-req" }, function(transaction)
    local token = transaction.sf:path():match("^/%.well%-known/acme%-challenge/([%w_-]+)$")
    local file = token and io.open("/acme/.well-known/acme-challenge/" .. token)
    if file then
        transaction:set_var("txn.acme", file:read("*a"))
        file:close()
    end
end)
