-- Managed by Ansible: roles/haproxy. Changes here are overwritten.
-- Requests of an app that is paused wait here. The list has the second at which a pause ends; nobody waits longer than 30 s.
local pauses = Map.new("/etc/haproxy/pauses.map", Map._str)
local LONGEST = 300 -- tenths of a second

core.register_action("hold", { "http-req" }, function(transaction)
    local app = transaction:get_var("txn.app")
    for _ = 1, LONGEST do
        local ends = tonumber(pauses:lookup(app) or "0") or 0
        if ends <= core.now().sec then
            return
        end
        core.msleep(100)
    end
end)
