"""The shop's pages: a list, pictures, and Django's pages for administrators."""

from django.conf import settings
from django.contrib import admin
from django.shortcuts import render
from django.urls import path, re_path
from django.views.static import serve

from .models import Item


def items(request):
    """Show what there is."""
    return render(request, "items.html", {"items": Item.objects.all()})


urlpatterns = [
    path("", items),
    path("admin/", admin.site.urls),
    re_path(r"^media/(?P<path>.+)$", serve, {"document_root": settings.MEDIA_ROOT}),
]
